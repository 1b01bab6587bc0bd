-- takecallbacks hands out callbacks that are due, for the length of a lease.
--
-- It promises: one is handed out once in a lease; one whose record is gone is
-- dropped.
--
-- KEYS: callbacks by when they are due
-- ARGV: at most so many, lease ms, prefix of the records (of the same slot)
-- Answers {id, record, id, record...}.
local due = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
for _, id in ipairs(redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  local record = redis.call('GET', ARGV[3] .. id)
  if record then
    redis.call('ZADD', due, now + ARGV[2], id)
    answer[#answer + 1], answer[#answer + 2] = id, record
  else
    redis.call('ZREM', due, id)
  end
end
return answer
