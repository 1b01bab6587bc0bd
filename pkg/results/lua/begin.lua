-- begin counts the start of an attempt that its claim did not count, and renews
-- the lease.
--
-- It promises: a start is counted once for each token, and only for the owner.
--
-- Takes the records, run, attempt, token and lease in ms.
-- Answers OK or LOST.
local _, t, run, attempt, token, lease = ...
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'counted', 'starts')
if f[1] ~= run or f[2] ~= attempt or f[3] ~= token then
  return 'LOST'
end
local starts = tonumber(f[5] or 0)
if not f[4] then
  starts = starts + 1
end
redis.call('HSET', t, 'starts', starts, 'counted', '1', 'lease', clock() + lease)
return 'OK'
