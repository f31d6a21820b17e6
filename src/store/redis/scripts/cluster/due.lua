-- How many clients of a bucket have something that is due. KEYS: the times.
local now = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], '-inf', string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)))
