-- renew lets the lease run anew for its owner, also when it had run out and
-- nobody has taken the attempt since.
--
-- It promises: a foreign token changes nothing; both records outlive the next
-- renewals however long the task runs.
--
-- Takes the records, run, attempt, token, lease and TTL in ms.
-- Answers HELD, LOST or CANCELLED (held, and to be revoked).
local m, t, run, attempt, token, lease, ttl = ...
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'cancel')
if f[1] ~= run or f[2] ~= attempt or f[3] ~= token then
  return 'LOST'
end
redis.call('HSET', t, 'lease', clock() + lease)
ttl = tonumber(ttl)
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
