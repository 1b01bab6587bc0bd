-- Uses a rate once, by GCRA.
-- KEYS[1]  the time at which the bucket is full again, in microseconds
-- ARGV     microseconds that a use takes, microseconds that the bucket holds
-- Answers whether it was allowed, and microseconds until the bucket is full.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local after = full + interval
if after - now > window then
	return {0, full - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, after - now}
