-- An incarnation that has given up all buckets is none any more. KEYS: nodes. ARGV: the incarnation, the entry that says so.
local home = string.sub(KEYS[1], 1, -6)
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HDEL', home .. 'hw', ARGV[1])
redis.call('HDEL', home .. 'about', ARGV[1])
local top = redis.call('HGET', home .. 'hw', 'top')
if not top or tonumber(top) < tonumber(ARGV[1]) then
  redis.call('HSET', home .. 'hw', 'top', ARGV[1])
end
-- It has no jobs any more: nobody repeats them.
local onces = redis.call('HGETALL', home .. 'm2')
for i = 1, #onces, 2 do
  if onces[i + 1] == ARGV[1] then
    redis.call('HDEL', home .. 'm2', onces[i])
  end
end
local cursor = '0'
repeat
  local page = redis.call('HSCAN', home .. 'f', cursor, 'MATCH', ARGV[1] .. ':*', 'COUNT', 1000)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    redis.call('HDEL', home .. 'f', page[2][i])
  end
until cursor == '0'
local position = redis.call('HINCRBY', home .. 'meta', 'pos', 1)
redis.call('XADD', home .. 'log', string.format('1-%.0f', position), 'e', ARGV[2])
return 1
