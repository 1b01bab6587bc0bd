-- claim answers whether a token may run an attempt, and if so makes it the
-- owner for the length of the lease.
--
-- It promises: attempts are ordered by (run, attempt), and what is older than
-- what was seen never runs; a run that has a final state never runs again; at
-- most one token at a time holds an attempt; a successor that was not confirmed
-- is named to the attempt that left it, and to no other; a claim that is
-- repeated with its token counts one start.
--
-- Takes the records, run, attempt, token, lease and TTL in ms.
-- Answers {verdict, starts, ms busy, next, record}.
--
-- Here as in every script of this folder the first write is one that Redis
-- refuses when its memory is full or its disk fails: a refusal leaves nothing
-- half done.
local m, t, run, attempt, token, lease, ttl = ...

-- Of most tasks nobody has heard.
local now = clock()
local short = string.format('%d %s %s %s', now + lease, run, attempt, token)
if redis.call('SET', t, short, 'NX', 'PX', ttl) then
  return {'RUN', 1, 0, '', ''}
end

unfold(t)
run, attempt, ttl = tonumber(run), tonumber(attempt), tonumber(ttl)
local f = redis.call('HMGET', t, 'run', 'attempt', 'owner', 'lease', 'starts',
  'counted', 'cancel', 'state', 'next', 'outcome')
local seen_run, seen_attempt = tonumber(f[1] or run), tonumber(f[2] or attempt)
local owner, until_ms, starts = f[3], tonumber(f[4] or 0), tonumber(f[5] or 0)
local counted, cancel, state, next = f[6], f[7], f[8], f[9]

-- A RETRY has raised the attempt already; a final state has not.
local function over(verdict)
  local author = state and seen_attempt or seen_attempt - 1
  if not next or run ~= seen_run or attempt ~= author then
    return {verdict, starts, 0, '', ''}
  end
  return {verdict, starts, 0, next, f[10] or redis.call('GET', m) or ''}
end

if run < seen_run or (run == seen_run and attempt < seen_attempt) then
  return over('STALE')
end
if run == seen_run and state then
  -- Whose result was deleted, or is too old, may have been submitted once more:
  -- nobody is to wait for what never runs.
  local pending = '{"status":"PENDING"'
  if redis.call('GETRANGE', m, 0, #pending - 1) == pending then
    redis.call('DEL', m)
  end
  return over('FINAL')
end

-- A newer run or attempt: nothing that was said about the older one holds.
if run > seen_run then
  cancel = false
end
if run > seen_run or attempt > seen_attempt then
  owner, starts, counted = false, 0, false
end

-- A live owner hears of a cancellation by its renewal and settles it itself:
-- nobody is told REVOKED while the handler still runs.
if owner and owner ~= token and until_ms > now then
  return {'BUSY', starts, until_ms - now, '', ''}
end

-- The first start is counted here, a later one when it begins: it may have to
-- wait until it is alone, and waiting is not running.
if owner ~= token then
  counted = false
  if starts == 0 and not cancel then
    starts, counted = 1, '1'
  end
end

local fields = {'run', run, 'attempt', attempt, 'owner', token, 'lease', now + lease, 'starts', starts}
if counted then
  fields[#fields + 1], fields[#fields + 2] = 'counted', counted
end
redis.call('HSET', t, unpack(fields))
-- That it arrived proves that it was published.
redis.call('HDEL', t, 'state', 'next', 'outcome')
if not counted then
  redis.call('HDEL', t, 'counted')
end
if not cancel then
  redis.call('HDEL', t, 'cancel')
end
if redis.call('PTTL', t) < ttl then
  redis.call('PEXPIRE', t, ttl)
end

if cancel then
  return {'CANCELLED', starts, 0, '', ''}
end
if not counted then
  starts = starts + 1
end
return {'RUN', starts, 0, '', ''}
