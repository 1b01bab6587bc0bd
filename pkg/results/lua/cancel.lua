-- cancel revokes a task. When nobody runs it, it is REVOKED at once, and its
-- message finds that out when it arrives. Whoever runs it is told to stop, and
-- settles it.
--
-- It promises: a final state is never written over; the record is replaced only
-- if it is the one that the caller has seen; a mark, or a REVOKED, lives as long
-- as the message can.
--
-- Takes the records, the result record that was seen, one of REVOKED, its TTL in
-- ms, the TTL of the task record in ms, run, attempt, the channel of cancellations
-- and the id.
-- Answers CHANGED (since it was seen), ENDED, RUNNING or REVOKED.
local m, t, seen, revoked, revoked_ttl, ttl, run, attempt, channel, id = ...
unfold(t)
ttl = tonumber(ttl)
local f = redis.call('HMGET', t, 'owner', 'lease', 'state')
if f[3] then
  return 'ENDED'
end
local now = clock()
if f[1] and tonumber(f[2] or 0) > now then
  redis.call('HSET', t, 'cancel', '1')
  if redis.call('PTTL', t) < ttl then
    redis.call('PEXPIRE', t, ttl)
  end
  redis.call('PUBLISH', channel, id)
  return 'RUNNING'
end
if redis.call('GET', m) ~= seen then
  return 'CHANGED'
end

redis.call('SET', m, revoked, 'PX', revoked_ttl)
redis.call('PUBLISH', m, revoked)
redis.call('HSET', t, 'state', 'REVOKED')
redis.call('HSETNX', t, 'run', run)
redis.call('HSETNX', t, 'attempt', attempt)
-- What a dead owner may have left is not to be done any more.
redis.call('HDEL', t, 'owner', 'lease', 'counted', 'next', 'outcome', 'cancel')
if redis.call('PTTL', t) < ttl then
  redis.call('PEXPIRE', t, ttl)
end
return 'REVOKED'
