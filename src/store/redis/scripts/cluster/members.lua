-- The nodes, who recovers whom, and what was lost, at one moment. KEYS: nodes, rec.
local home = string.sub(KEYS[1], 1, -6)
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('HGETALL', KEYS[2]),
  redis.call('TIME'),
  redis.call('SMEMBERS', home .. 'lost'),
  redis.call('HMGET', home .. 'meta', 'pos', 'gen'),
}
