-- Lets an incarnation write to a home, unless it has been removed from it. KEYS: hw. ARGV: the incarnation.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  return 'OK'
end
local top = redis.call('HGET', KEYS[1], 'top')
if top and tonumber(ARGV[1]) <= tonumber(top) then
  return 'FENCED'
end
redis.call('HSET', KEYS[1], ARGV[1], 0)
return 'OK'
