-- Begins an incarnation. KEYS: meta, inc. ARGV: schema, buckets.
local schema = redis.call('HGET', KEYS[1], 'schema')
if not schema then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'buckets', ARGV[2], 'batch', 0)
elseif schema ~= ARGV[1] or redis.call('HGET', KEYS[1], 'buckets') ~= ARGV[2] then
  return { 0, schema, redis.call('HGET', KEYS[1], 'buckets') or 'unknown' }
end
return { redis.call('INCR', KEYS[2]), redis.call('HGET', KEYS[1], 'batch') or 'none', '' }
