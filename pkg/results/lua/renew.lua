-- renew lets the lease run anew for its owner, also when it had run out and
-- nobody has taken the attempt since.
--
-- It promises: a foreign token changes nothing; both records outlive the next
-- renewals however long the task runs.
--
-- KEYS: result record, task record
-- ARGV: run, attempt, token, lease ms, TTL ms
-- Answers HELD, LOST or CANCELLED (held, and to be revoked).
local m, t = KEYS[1], KEYS[2]
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'cancel')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] or f[3] ~= ARGV[3] then
  return 'LOST'
end
local now = clock()
redis.call('HSET', t, 'lease', now + tonumber(ARGV[4]))
local ttl = tonumber(ARGV[5])
if redis.call('PTTL', t) < ttl / 2 then
  redis.call('PEXPIRE', t, ttl)
  local left = redis.call('PTTL', m)
  if left >= 0 and left < ttl then
    redis.call('PEXPIRE', m, ttl)
  end
end
if f[4] then
  return 'CANCELLED'
end
return 'HELD'
