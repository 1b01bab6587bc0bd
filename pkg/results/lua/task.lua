-- This stands before every script that reads the task record. What follows it is
-- the body of a function, which each.lua calls for one task after the other.
--
-- The record is a hash. Most tasks need little of it: they are claimed once and
-- end, so a first claim and its final state are one value each, which costs a
-- third of the hash and of its expiry:
--
--   <lease> <run> <attempt> <token>   claimed, started once
--   <run> <attempt> <state>           ended after that

-- clock is the time in milliseconds, which leases are told in. It stands still
-- while a script runs.
local told
local function clock()
  if not told then
    local time = redis.call('TIME')
    told = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return told
end

-- unfold makes a hash of a record that is a value.
local function unfold(t)
  local short = redis.call('MGET', t)[1] -- unlike GET it takes a hash for nothing
  if not short then
    return
  end
  local left = redis.call('PTTL', t)
  redis.call('SET', t, short, 'PX', left) -- is refused when the memory is full, DEL is not
  redis.call('DEL', t)
  local lease, run, attempt, token = string.match(short, '^(%d+) (%d+) (%d+) (.*)$')
  if lease then
    redis.call('HSET', t, 'run', run, 'attempt', attempt, 'owner', token, 'lease', lease, 'starts', 1, 'counted', '1')
  else
    local state
    run, attempt, state = string.match(short, '^(%d+) (%d+) (%u+)$')
    redis.call('HSET', t, 'run', run, 'attempt', attempt, 'starts', 1, 'state', state)
  end
  redis.call('PEXPIRE', t, left)
end

