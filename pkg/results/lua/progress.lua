-- progress replaces the result record of a running attempt and publishes it.
--
-- It promises: only the owner writes, and nobody after a final state (which has
-- no owner), so that a handler that outlives its limit revives nothing.
--
-- KEYS: result record, task record
-- ARGV: run, attempt, token, record, TTL ms
-- Answers OK or LOST.
local m, t = KEYS[1], KEYS[2]
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'state')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] or f[3] ~= ARGV[3] or f[4] then
  return 'LOST'
end
local ttl = tonumber(ARGV[5])
redis.call('SET', m, ARGV[4], 'PX', ttl)
redis.call('PUBLISH', m, ARGV[4])
if redis.call('PTTL', t) < ttl then
  redis.call('PEXPIRE', t, ttl)
end
return 'OK'
