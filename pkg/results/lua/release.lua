-- release gives an attempt back as if its owner had never claimed it.
--
-- It promises: the next claim does not wait for the lease; the start is taken
-- back if this owner counted one, and an earlier owner's start never is; a
-- foreign token changes nothing.
--
-- KEYS: result record, task record
-- ARGV: run, attempt, token
-- Answers OK or LOST.
local t = KEYS[2]
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'counted', 'starts')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] or f[3] ~= ARGV[3] then
  return 'LOST'
end
local starts = tonumber(f[5] or 0)
if f[4] and starts > 0 then
  redis.call('HSET', t, 'starts', starts - 1)
end
redis.call('HDEL', t, 'owner', 'lease', 'counted')
return 'OK'
