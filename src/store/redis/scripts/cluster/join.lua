-- Begins an incarnation. KEYS: meta. ARGV: schema, buckets, how many incarnations there can be, the head of the entry `Join`, the schema
-- before.
-- Answers with its number, the position of the log, the time, and which generation is over; or with 0 and what is there.
local home = string.sub(KEYS[1], 1, -5)
local schema, buckets = unpack(redis.call('HMGET', KEYS[1], 'schema', 'buckets'))
-- It has all that this one needs. But a node that knows no other would not look whether it is over.
local is_one_before = schema == ARGV[5] and redis.call('EXISTS', home .. 'nodes') == 0
if not schema then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'buckets', ARGV[2], 'pos', 0)
elseif buckets ~= ARGV[2] or (schema ~= ARGV[1] and not is_one_before) then
  return { 0, schema, buckets or 'unknown' }
elseif is_one_before then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1])
end
pass_forgotten(home)
local mine = math.max(tonumber(redis.call('GET', home .. 'inc') or 0), generation_of(home)) + 1
if mine >= tonumber(ARGV[3]) then
  return { 0, 'used up', '' }
end
redis.call('SET', home .. 'inc', mine)
local position = redis.call('HINCRBY', KEYS[1], 'pos', 1)
local entry = ARGV[4] .. struct.pack('>I4I4', 0, mine)
redis.call('XADD', home .. 'log', string.format('1-%.0f', position), 'e', entry)
redis.call('HSET', home .. 'nodes', mine, string.format('0:%.0f', position))
redis.call('HSET', home .. 'hw', mine, 0)
local time = redis.call('TIME')
return { mine, position, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), generation_of(home) }
