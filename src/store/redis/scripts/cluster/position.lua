-- Reads the position of the log by a write, so that WAIT covers it, and which generation is over. KEYS: meta.
return { redis.call('HINCRBY', KEYS[1], 'pos', 0), redis.call('HGET', KEYS[1], 'gen') }
