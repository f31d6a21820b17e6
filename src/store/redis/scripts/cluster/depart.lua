-- Gives up a bucket, if nothing in it is the incarnation's; or only looks whether it may. KEYS: hw. ARGV: the incarnation, 1 if it is to
-- be given up. Answers 1 if it is or may be, 0 if something is left.
local home = string.sub(KEYS[1], 1, -3)
local mine = ARGV[1]

local function is_mine(key, of)
  for _, value in ipairs(redis.call('HVALS', home .. key)) do
    if string.match(value, of) == mine then
      return true
    end
  end
end

-- Behind the checksum of a job is whose it is.
local function has_job()
  local number = struct.pack('>I4I4', 0, tonumber(mine))
  for _, job in ipairs(redis.call('HVALS', home .. 'jobs')) do
    if string.sub(job, 3, 10) == number then
      return true
    end
  end
end

if redis.call('HEXISTS', KEYS[1], mine) == 0 then
  return 1
end
if redis.call('EXISTS', home .. 'own:' .. mine) == 1 or has_job() or is_mine('rest', ' (%d+)$') or is_mine('m2', '^%d+') then
  return 0
end
if ARGV[2] == '1' then
  redis.call('HDEL', KEYS[1], mine)
  local top = redis.call('HGET', KEYS[1], 'top')
  if not top or tonumber(top) < tonumber(mine) then
    redis.call('HSET', KEYS[1], 'top', mine)
  end
  redis.call('UNLINK', home .. 'in:' .. mine, home .. 'in0:' .. mine)
end
return 1
