-- progress replaces the result record of a running attempt and publishes it.
--
-- It promises: only the owner writes, and nobody after a final state (which has
-- no owner), so that a handler that outlives its limit revives nothing.
--
-- Takes the records, run, attempt, token, the new result record and its TTL in ms.
-- Answers OK or LOST.
local m, t, run, attempt, token, record, ttl = ...
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'state')
if f[1] ~= run or f[2] ~= attempt or f[3] ~= token or f[4] then
  return 'LOST'
end
ttl = tonumber(ttl)
redis.call('SET', m, record, 'PX', ttl)
redis.call('PUBLISH', m, record)
if redis.call('PTTL', t) < ttl then
  redis.call('PEXPIRE', t, ttl)
end
return 'OK'
