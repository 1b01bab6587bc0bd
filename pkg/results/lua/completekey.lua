-- completekey keeps the answer of a submission whose task is published.
--
-- It promises: the first answer stays; whoever published under the reserved id
-- may complete, also when somebody else holds the key by now, because the task
-- is the same.
--
-- KEYS: reservation
-- ARGV: fingerprint, id, answer
-- Answers OK or LOST.
local k = KEYS[1]
local f = redis.call('HMGET', k, 'fingerprint', 'id', 'state')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] then
  return 'LOST'
end
if f[3] ~= 'done' then
  redis.call('HSET', k, 'state', 'done', 'answer', ARGV[3])
  redis.call('HDEL', k, 'token', 'lease', 'doubt')
end
return 'OK'
