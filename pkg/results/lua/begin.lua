-- begin counts the start of an attempt that its claim did not count, and renews
-- the lease.
--
-- It promises: a start is counted once for each token, and only for the owner.
--
-- KEYS: result record, task record
-- ARGV: run, attempt, token, lease ms
-- Answers OK or LOST.
local t = KEYS[2]
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'counted', 'starts')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] or f[3] ~= ARGV[3] then
  return 'LOST'
end
local starts = tonumber(f[5] or 0)
if not f[4] then
  starts = starts + 1
end
local now = clock()
redis.call('HSET', t, 'starts', starts, 'counted', '1', 'lease', now + tonumber(ARGV[4]))
return 'OK'
