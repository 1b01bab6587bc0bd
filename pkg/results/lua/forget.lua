-- forget removes a field of a hash if it still has the value it was judged by.
--
-- It promises: what was written in between stays.
--
-- KEYS: hash
-- ARGV: field, value
-- Answers the number of fields removed.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
