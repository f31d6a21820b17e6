-- Begins an incarnation. KEYS: meta. ARGV: schema, buckets, how many incarnations there can be, the head of the entry `Join`.
-- Answers with its number, the position of the log, and the time; or with 0 and what is there.
local home = string.sub(KEYS[1], 1, -5)
local schema = redis.call('HGET', KEYS[1], 'schema')
if not schema then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'buckets', ARGV[2], 'pos', 0)
elseif schema ~= ARGV[1] or redis.call('HGET', KEYS[1], 'buckets') ~= ARGV[2] then
  return { 0, schema, redis.call('HGET', KEYS[1], 'buckets') or 'unknown' }
end
if tonumber(redis.call('GET', home .. 'inc') or 0) + 1 >= tonumber(ARGV[3]) then
  return { 0, 'used up', '' }
end
local mine = redis.call('INCR', home .. 'inc')
local position = redis.call('HINCRBY', KEYS[1], 'pos', 1)
local entry = ARGV[4] .. struct.pack('>I4I4', 0, mine)
redis.call('XADD', home .. 'log', string.format('1-%.0f', position), 'e', entry)
redis.call('HSET', home .. 'nodes', mine, string.format('0:%.0f', position))
redis.call('HSET', home .. 'hw', mine, 0)
local time = redis.call('TIME')
return { mine, position, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) }
