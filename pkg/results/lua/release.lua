-- release gives an attempt back as if its owner had never claimed it.
--
-- It promises: the next claim does not wait for the lease; the start is taken
-- back if this owner counted one, and an earlier owner's start never is; a
-- foreign token changes nothing.
--
-- Takes the records, run, attempt and token.
-- Answers OK or LOST.
local _, t, run, attempt, token = ...
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'counted', 'starts')
if f[1] ~= run or f[2] ~= attempt or f[3] ~= token then
  return 'LOST'
end
local starts = tonumber(f[5] or 0)
if f[4] and starts > 0 then
  redis.call('HSET', t, 'starts', starts - 1)
end
redis.call('HDEL', t, 'owner', 'lease', 'counted')
return 'OK'
