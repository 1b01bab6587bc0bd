-- saveoperation writes how far an operation is and renews its lease, gives it
-- back, or ends it.
--
-- It promises: only who has begun or taken it last can write, also when its
-- lease has run out in between; an end is final, and frees the queue.
--
-- KEYS: open, list of the queue, operation, its lease
-- ARGV: queue, id, token, record, lease ms (0 gives it back), final state or '',
-- TTL ms from the end on
-- Answers OK, CANCEL (it is to stop) or LOST.
local open, list, operation, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local f = redis.call('HMGET', operation, 'token', 'cancel')
if f[1] ~= ARGV[3] then
  return 'LOST'
end
redis.call('HSET', operation, 'record', ARGV[4])
if ARGV[6] ~= '' then
  redis.call('HSET', operation, 'state', ARGV[6])
  redis.call('HDEL', operation, 'token')
  redis.call('DEL', lease)
  redis.call('PEXPIRE', operation, ARGV[7])
  redis.call('PEXPIRE', list, ARGV[7])
  if redis.call('HGET', open, ARGV[1]) == ARGV[2] then
    redis.call('HDEL', open, ARGV[1])
  end
elseif ARGV[5] == '0' then
  redis.call('HDEL', operation, 'token')
  redis.call('DEL', lease)
else
  redis.call('SET', lease, '1', 'PX', ARGV[5])
end
return f[2] and 'CANCEL' or 'OK'
