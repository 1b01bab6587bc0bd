-- remove deletes the result record of a task that has ended.
--
-- It promises: the record of a task that has not ended, or that runs anew, stays;
-- the task record stays in any case, so that no message that is still on its way
-- makes the task run again.
--
-- Takes the records, and the beginning of the result record that was seen, which
-- says its state.
-- Answers OK or OPEN.
local m, t, head = ...
unfold(t)
local f = redis.call('HMGET', t, 'run', 'state')
if f[1] and not f[2] then
  return 'OPEN'
end
if redis.call('GETRANGE', m, 0, #head - 1) ~= head then
  return 'OPEN'
end
redis.call('DEL', m)
return 'OK'
