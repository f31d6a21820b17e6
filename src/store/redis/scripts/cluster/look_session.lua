-- A session, and what goes with it, at one moment. KEYS: its record. ARGV: its name, whether with its queues.
local home = string.match(KEYS[1], '^.-}:')
local function lane(name)
  local key = home .. name .. ':' .. ARGV[1]
  if ARGV[2] == '1' then
    return redis.call('LRANGE', key, 0, -1)
  end
  return { redis.call('LLEN', key), redis.call('LINDEX', key, 0), redis.call('LINDEX', key, -3) }
end
-- A session that has ended leaves its queue for others if it has messages for them.
local function is_rest()
  for _, rest in ipairs(redis.call('HVALS', home .. 'rest')) do
    if string.match(rest, '^%d+') == ARGV[1] then
      return 1
    end
  end
  return 0
end
local cid = redis.call('HGET', KEYS[1], 'cid')
local client = {}
if cid then
  client = redis.call('HMGET', home .. 'c:' .. cid, 'uid', 'owner', 'opened')
end
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('SISMEMBER', home .. 'sessions', ARGV[1]),
  client,
  cid and 0 or is_rest(),
  lane('q'),
  lane('r'),
}
