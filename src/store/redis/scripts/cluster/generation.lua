-- What is over when writes were lost: incarnations up to the generation, and the homes that have lost some of theirs.
-- `g` is what all keys of the global home begin with.

local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end

-- A server that has taken the place of another one may have forgotten incarnations, whose numbers must not come again. Which ones it has
-- jumped to before is forgotten, too, if another one takes its place in a moment: so it does not jump to the same.
local function pass_forgotten(g)
  local server, before = run_id(), redis.call('HGET', g .. 'meta', 'server')
  if server == before then
    return
  end
  if before then
    local jump = 64 + tonumber(redis.call('TIME')[2]) % 448
    redis.call('SET', g .. 'inc', tonumber(redis.call('GET', g .. 'inc') or 0) + jump)
  end
  redis.call('HSET', g .. 'meta', 'server', server)
end

local function generation_of(g)
  return tonumber(redis.call('HGET', g .. 'meta', 'gen') or 0)
end

local function has_one_up_to(key, generation)
  for _, node in ipairs(redis.call('HKEYS', key)) do
    if tonumber(node) <= generation then
      return true
    end
  end
  return false
end

-- Redis has lost writes of this incarnation: all that there are are over. What homes have lost before is in order when nothing of an
-- older generation is left.
local function raise(g, over, homes)
  pass_forgotten(g)
  local generation = generation_of(g)
  if generation < over then
    if not has_one_up_to(g .. 'nodes', generation) and not has_one_up_to(g .. 'rec', generation) then
      redis.call('UNLINK', g .. 'lost')
    end
    generation = math.max(tonumber(redis.call('GET', g .. 'inc') or 0), over)
    redis.call('HSET', g .. 'meta', 'gen', string.format('%.0f', generation))
  end
  for _, home in ipairs(homes) do
    redis.call('SADD', g .. 'lost', home)
  end
  return generation
end
