-- takeoperation takes an operation over that nobody holds.
--
-- It promises: while the lease lives its holder keeps the operation, and from
-- the taking on an earlier holder can write nothing; what has ended is not
-- taken.
--
-- KEYS: operation, its lease
-- ARGV: token, lease ms
-- Answers {'OK', queue, record} or {'LOST'}.
local f = redis.call('HMGET', KEYS[1], 'queue', 'record', 'state')
if not f[1] or f[3] or redis.call('EXISTS', KEYS[2]) == 1 then
  return {'LOST'}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
return {'OK', f[1], f[2]}
