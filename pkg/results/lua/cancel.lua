-- cancel revokes a task. When nobody runs it, it is REVOKED at once, and its
-- message finds that out when it arrives. Whoever runs it is told to stop, and
-- settles it.
--
-- It promises: a final state is never written over; the record is replaced only
-- if it is the one that the caller has seen; a mark, or a REVOKED, lives as long
-- as the message can.
--
-- KEYS: result record, task record
-- ARGV: record that was seen, record of REVOKED, its TTL ms, TTL ms of the task
-- record, run, attempt, channel of cancellations, id
-- Answers CHANGED (since it was seen), ENDED, RUNNING or REVOKED.
local m, t = KEYS[1], KEYS[2]
unfold(t)
local ttl = tonumber(ARGV[4])
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
  redis.call('PUBLISH', ARGV[7], ARGV[8])
  return 'RUNNING'
end
if redis.call('GET', m) ~= ARGV[1] then
  return 'CHANGED'
end

redis.call('SET', m, ARGV[2], 'PX', ARGV[3])
redis.call('PUBLISH', m, ARGV[2])
redis.call('HSET', t, 'state', 'REVOKED')
redis.call('HSETNX', t, 'run', ARGV[5])
redis.call('HSETNX', t, 'attempt', ARGV[6])
-- What a dead owner may have left is not to be done any more.
redis.call('HDEL', t, 'owner', 'lease', 'counted', 'next', 'outcome', 'cancel')
if redis.call('PTTL', t) < ttl then
  redis.call('PEXPIRE', t, ttl)
end
return 'REVOKED'
