-- canceloperation asks whoever holds an operation, or takes it over, to stop.
--
-- It promises: what has ended stays as it is.
--
-- KEYS: operation
-- Answers OK or LOST.
local f = redis.call('HMGET', KEYS[1], 'queue', 'state')
if not f[1] or f[2] then
  return 'LOST'
end
redis.call('HSET', KEYS[1], 'cancel', '1')
return 'OK'
