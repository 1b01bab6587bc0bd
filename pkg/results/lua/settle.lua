-- settle stores the outcome of an attempt, publishes it, and notes the
-- successor that must be published because of it.
--
-- It promises: all of it or nothing; only the owner settles, once; a final state
-- of a run is never written over.
--
-- Takes the records, run, attempt, token, the final state or '' for a RETRY, the
-- new result record, '1' to keep it out of sight or '', next or '', its TTL and that
-- of the task record in ms.
-- Answers OK or LOST.
local m, t, run, attempt, token, state, record, ignore, next, ttl, guard = ...
ignore = ignore ~= ''

-- What nothing has happened to since its claim is settled in the short form too.
local short = state ~= '' and next == '' and redis.call('MGET', t)[1]
if short then
  local own = ' ' .. run .. ' ' .. attempt .. ' ' .. token
  if string.sub(short, -#own) ~= own then
    return 'LOST'
  end
else
  unfold(t)
  local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'state')
  if f[1] ~= run or f[2] ~= attempt or f[3] ~= token or f[4] then
    return 'LOST'
  end
end

if not ignore then
  redis.call('SET', m, record, 'PX', ttl)
  redis.call('PUBLISH', m, record)
end
if short then
  redis.call('SET', t, run .. ' ' .. attempt .. ' ' .. state, 'PX', guard)
elseif state ~= '' then
  redis.call('HSET', t, 'state', state)
else
  redis.call('HSET', t, 'attempt', attempt + 1, 'starts', 0)
end
-- None is left from before: the claim has cleared it.
if next ~= '' then
  redis.call('HSET', t, 'next', next)
  if ignore then
    redis.call('HSET', t, 'outcome', record)
  end
end
if ignore and state ~= '' then
  redis.call('DEL', m)
end
if short then
  return 'OK'
end
redis.call('HDEL', t, 'owner', 'lease', 'counted')

-- The time to keep a final state starts now, whatever was there before; a
-- RETRY never shortens what is there.
if state ~= '' or redis.call('PTTL', t) < tonumber(guard) then
  redis.call('PEXPIRE', t, guard)
end
return 'OK'
