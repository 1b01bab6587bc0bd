-- done clears the successor of an attempt: the broker has confirmed it.
--
-- It promises: the successor of any other attempt stays.
--
-- Takes the records, run and attempt.
-- Answers OK.
local _, t, run, attempt = ...
unfold(t)
local f = redis.call('HMGET', t, 'run', 'attempt', 'state')
if f[1] ~= run then
  return 'OK'
end
local author = tonumber(f[2])
if not f[3] then
  author = author - 1
end
if author == tonumber(attempt) then
  redis.call('HDEL', t, 'next', 'outcome')
end
return 'OK'
