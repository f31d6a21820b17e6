-- Makes an incarnation the only one that may write to a home. KEYS: hw. ARGV: the incarnation.
-- Answers with those that may not any more, and how far they came.
local home, mine = string.sub(KEYS[1], 1, -3), ARGV[1]
local before = redis.call('HGETALL', KEYS[1])
for i = 1, #before, 2 do
  if tonumber(before[i]) > tonumber(mine) then
    return 'FENCED'
  end
end
for i = 1, #before, 2 do
  local other = before[i]
  if other ~= mine then
    local own = home .. 'own:' .. other
    if redis.call('EXISTS', own) == 1 then
      redis.call('SUNIONSTORE', home .. 'own:' .. mine, home .. 'own:' .. mine, own)
      redis.call('DEL', own)
    end
    redis.call('HDEL', KEYS[1], other)
    redis.call('HDEL', home .. 'nodes', other)
  end
end
redis.call('HSETNX', KEYS[1], mine, 0)
return before
