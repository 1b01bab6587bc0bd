-- releasekey gives a key back whose holder has certainly published nothing.
--
-- It promises: a foreign token changes nothing; a reservation in doubt keeps
-- its id, for an earlier holder may have published under it, and can be taken
-- over at once; any other is gone as if it had never been.
--
-- KEYS: reservation
-- ARGV: token
-- Answers OK or LOST.
local k = KEYS[1]
local f = redis.call('HMGET', k, 'token', 'state', 'doubt')
if f[1] ~= ARGV[1] or f[2] ~= 'pending' then
  return 'LOST'
end
if f[3] then
  redis.call('HSET', k, 'lease', 0)
else
  redis.call('DEL', k)
end
return 'OK'
