-- The cluster at one moment. KEYS: nodes, rec, about, meta, log, f, ret.
return {
  redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3]),
  redis.call('HGET', KEYS[4], 'pos'), redis.call('XLEN', KEYS[5]), redis.call('HLEN', KEYS[6]),
  redis.call('HLEN', KEYS[7])
}
