-- done clears the successor of an attempt: the broker has confirmed it.
--
-- It promises: the successor of any other attempt stays.
--
-- KEYS: result record, task record
-- ARGV: run, attempt
-- Answers OK.
local t = KEYS[2]
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'state')
if f[1] ~= ARGV[1] then
  return 'OK'
end
local author = tonumber(f[2])
if not f[3] then
  author = author - 1
end
if author == tonumber(ARGV[2]) then
  redis.call('HDEL', t, 'next', 'outcome')
end
return 'OK'
