-- settle stores the outcome of an attempt, publishes it, and notes the
-- successor that must be published because of it.
--
-- It promises: all of it or nothing; only the owner settles, once; a final state
-- of a run is never written over.
--
-- KEYS: result record, task record
-- ARGV: run, attempt, token, final state or '' for a RETRY, record, '1' to keep
-- the record out of sight or '', next or '', TTL ms, TTL ms of the task record
-- Answers OK or LOST.
local m, t = KEYS[1], KEYS[2]
local state, record, ignore, next = ARGV[4], ARGV[5], ARGV[6] ~= '', ARGV[7]
local guard = tonumber(ARGV[9])

-- What nothing has happened to since its claim is settled in the short form too.
local short = state ~= '' and next == '' and redis.call('TYPE', t).ok == 'string'
if short then
  local own = ' ' .. ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3]
  if redis.call('GETRANGE', t, -#own, -1) ~= own then
    return 'LOST'
  end
else
  unfold(t)
  local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'state')
  if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] or f[3] ~= ARGV[3] or f[4] then
    return 'LOST'
  end
end

if not ignore then
  redis.call('SET', m, record, 'PX', ARGV[8])
  redis.call('PUBLISH', m, record)
end
if short then
  redis.call('SET', t, ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. state, 'PX', ARGV[9])
elseif state ~= '' then
  redis.call('HSET', t, 'state', state)
else
  redis.call('HSET', t, 'attempt', tonumber(ARGV[2]) + 1, 'starts', 0)
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
if state ~= '' or redis.call('PTTL', t) < guard then
  redis.call('PEXPIRE', t, guard)
end
return 'OK'
