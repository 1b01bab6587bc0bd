-- beginoperation enters an operation on a queue, held by whoever begins it.
--
-- It promises: a queue has one operation at a time that has not ended; to begin
-- the same one again is harmless; the list of a queue is bounded.
--
-- KEYS: open, list of the queue, operation, its lease
-- ARGV: queue, id, record, token, lease ms, longest list
-- Answers {'OK', ids that are to be forgotten...} or {'BUSY', id of the other}.
local open, list, operation, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local queue, id = ARGV[1], ARGV[2]
local other = redis.call('HGET', open, queue)
if other and other ~= id then
  return {'BUSY', other}
end
redis.call('HSET', open, queue, id)
redis.call('HSET', operation, 'queue', queue, 'record', ARGV[3], 'token', ARGV[4])
redis.call('SET', lease, '1', 'PX', ARGV[5])
if not other then
  redis.call('LPUSH', list, id)
end
redis.call('PERSIST', list)
local answer = redis.call('LRANGE', list, ARGV[6], -1)
redis.call('LTRIM', list, 0, ARGV[6] - 1)
table.insert(answer, 1, 'OK')
return answer
