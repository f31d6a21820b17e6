-- What there is of nodes and of the log, at one moment. KEYS: meta.
local home = string.sub(KEYS[1], 1, -5)
local log, newest = home .. 'log', '0-0'
if redis.call('EXISTS', log) == 1 then
  local known = redis.call('XINFO', 'STREAM', log)
  for i = 1, #known, 2 do
    if known[i] == 'last-generated-id' then
      newest = known[i + 1]
    end
  end
end
return {
  redis.call('HMGET', KEYS[1], 'schema', 'buckets', 'pos'),
  redis.call('GET', home .. 'inc') or '0',
  redis.call('HGETALL', home .. 'nodes'),
  redis.call('HGETALL', home .. 'rec'),
  redis.call('HGETALL', home .. 'hw'),
  redis.call('XRANGE', log, '-', '+', 'COUNT', 1),
  newest,
}
