-- restart begins a run of a task that has ended, before its message is
-- published.
--
-- It promises: a run begins once, however often it is asked for; an older run
-- never comes back; a task that somebody runs is left alone.
--
-- Takes the records, run, a result record of PENDING or '', and its TTL in ms.
-- Answers OK (also when this run has begun and not ended: publish it again),
-- SUPERSEDED (it has ended, or a later one has begun) or RUNNING.
local m, t, run, record, ttl = ...
unfold(t)
run, ttl = tonumber(run), tonumber(ttl)
local f = redis.call('HMGET', t, 'run', 'state', 'owner', 'lease')
local seen = tonumber(f[1] or 0)
if seen > run or (seen == run and f[2]) then
  return 'SUPERSEDED'
end
if seen == run and run > 0 then
  return 'OK'
end
local now = clock()
if f[3] and tonumber(f[4] or 0) > now then
  return 'RUNNING'
end

redis.call('HSET', t, 'run', run, 'attempt', 0, 'starts', 0)
redis.call('HDEL', t, 'state', 'owner', 'lease', 'counted', 'cancel', 'next', 'outcome')
if redis.call('PTTL', t) < ttl then
  redis.call('PEXPIRE', t, ttl)
end
if record ~= '' then
  redis.call('SET', m, record, 'PX', ttl)
  redis.call('PUBLISH', m, record)
else
  redis.call('DEL', m)
end
return 'OK'
