-- remove deletes the result record of a task that has ended.
--
-- It promises: the record of a task that has not ended, or that runs anew, stays;
-- the task record stays in any case, so that no message that is still on its way
-- makes the task run again.
--
-- KEYS: result record, task record
-- ARGV: beginning of the record that was seen, which says its state
-- Answers OK or OPEN.
local m, t = KEYS[1], KEYS[2]
unfold(t)
local f = redis.call('HMGET', t, 'run', 'state')
if f[1] and not f[2] then
  return 'OPEN'
end
if redis.call('GETRANGE', m, 0, #ARGV[1] - 1) ~= ARGV[1] then
  return 'OPEN'
end
redis.call('DEL', m)
return 'OK'
