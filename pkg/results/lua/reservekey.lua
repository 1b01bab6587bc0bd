-- reservekey reserves an Idempotency-Key for one submission, or tells what has
-- become of an earlier one.
--
-- It promises: at most one token holds the key while its lease lives; the id
-- that was reserved first stays; a reservation that lapsed is in doubt from
-- then on, because its holder may have published; it lives for the TTL from the
-- first reservation, which nothing extends, so that a lapsed one can never
-- outlive the task record that keeps its task from running twice.
--
-- KEYS: reservation
-- ARGV: fingerprint, id, token, lease ms, TTL ms
-- Answers {state, id, milliseconds of the lease left, answer}.
local k, fingerprint, id, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local f = redis.call('HMGET', k, 'fingerprint', 'id', 'state', 'token', 'lease', 'doubt', 'answer')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if not f[1] then
  redis.call('HSET', k, 'fingerprint', fingerprint, 'id', id, 'state', 'pending',
    'token', token, 'lease', now + tonumber(ARGV[4]))
  redis.call('PEXPIRE', k, ARGV[5])
  return {'RESERVED', id, 0, ''}
end
if f[1] ~= fingerprint then
  return {'MISMATCH', '', 0, ''}
end
if f[3] == 'done' then
  return {'DONE', f[2], 0, f[7] or ''}
end

if f[4] == token then
  redis.call('HSET', k, 'lease', now + tonumber(ARGV[4]))
  return {f[6] and 'TAKEN' or 'RESERVED', f[2], 0, ''}
end
local left = tonumber(f[5]) - now
if left > 0 then
  return {'BUSY', f[2], left, ''}
end
redis.call('HSET', k, 'token', token, 'lease', now + tonumber(ARGV[4]), 'doubt', '1')
return {'TAKEN', f[2], 0, ''}
