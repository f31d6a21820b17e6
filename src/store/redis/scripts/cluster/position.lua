-- Reads the position of the log by a write, so that WAIT covers it. KEYS: meta.
return redis.call('HINCRBY', KEYS[1], 'pos', 0)
