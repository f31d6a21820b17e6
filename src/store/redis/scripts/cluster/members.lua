-- The nodes, and who recovers whom, at one moment. KEYS: nodes, rec.
return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('TIME') }
