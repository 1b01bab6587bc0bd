-- record writes the record of a submission.
--
-- It promises: it never writes over anything; a task that a worker has seen
-- already, even one whose result is ignored, gets no record of submission.
--
-- KEYS: result record, task record
-- ARGV: record, TTL ms
-- Answers OK or SEEN.
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then
  return 'SEEN'
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'OK'
