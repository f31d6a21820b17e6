-- What all nodes mirror: the log, and what it comes to. Answers with the position, how many messages were not retained, and which
-- generation is over.
local refused = 0

local function log(entry)
  local position = redis.call('HINCRBY', home .. 'meta', 'pos', 1)
  redis.call('XADD', home .. 'log', '1-' .. whole(position), 'e', entry)
end

changes['log'] = function()
  log(take())
end

changes['route'] = function()
  local field, kind, entry = take(), take(), take()
  redis.call('HSET', home .. 'f', field, kind)
  log(entry)
end

changes['unroute'] = function()
  local field, entry = take(), take()
  redis.call('HDEL', home .. 'f', field)
  log(entry)
end

-- A topic that is new must have room.
local function retain(topic, message, head, most)
  local key = home .. 'ret'
  if redis.call('HLEN', key) >= most and redis.call('HEXISTS', key, topic) == 0 then
    refused = refused + 1
    return
  end
  redis.call('HSET', key, topic, message)
  -- Without its checksum.
  log(head .. string.sub(message, 1, -5))
end

local function clear(topic, entry)
  redis.call('HDEL', home .. 'ret', topic)
  log(entry)
end

changes['retain'] = function()
  local topic, message, head, most = take(), take_message(), take(), tonumber(take())
  retain(topic, message, head, most)
end

changes['clear'] = function()
  local topic, entry = take(), take()
  clear(topic, entry)
end

-- Whoever repeats a job does not put its message over later ones.
local function is_first(mid, of)
  return redis.call('HSETNX', home .. 'm2', mid, of) == 1
end

changes['retain-once'] = function()
  local mid, of, topic, message, head, most = take(), take(), take(), take_message(), take(), tonumber(take())
  if is_first(mid, of) then
    retain(topic, message, head, most)
  end
end

changes['clear-once'] = function()
  local mid, of, topic, entry = take(), take(), take(), take()
  if is_first(mid, of) then
    clear(topic, entry)
  end
end

changes['forget'] = function()
  redis.call('HDEL', home .. 'm2', take())
end

local function forget_of(node)
  local all = redis.call('HGETALL', home .. 'm2')
  for i = 1, #all, 2 do
    if all[i + 1] == node then
      redis.call('HDEL', home .. 'm2', all[i])
    end
  end
end

-- A message that has expired goes, if it is still there: the one with this moment, in the 8 bytes behind its flags.
changes['expire'] = function()
  local topic, moment, entry = take(), take(), take()
  local message = redis.call('HGET', home .. 'ret', topic)
  if message and string.sub(message, 2, 9) == moment then
    redis.call('HDEL', home .. 'ret', topic)
    log(entry)
  end
end

-- If what the dead node has written last may be lost, nobody can tell what that was.
changes['dead'] = function()
  local node, counter, entry, homes = take(), take(), take(), {}
  for i = 1, tonumber(take()) do
    homes[i] = take()
  end
  local state = redis.call('HGET', home .. 'nodes', node)
  if not state or string.match(state, '^%d+') ~= counter then
    return
  end
  if #homes > 0 then
    to_raise()(home, tonumber(node), homes)
  end
  redis.call('HDEL', home .. 'nodes', node)
  fence(node)
  redis.call('HSET', home .. 'rec', node, mine)
  log(entry)
end

-- An incarnation is over, as its successor says, or nobody knows it.
changes['retire'] = function()
  local node, entry = take(), take()
  if redis.call('HDEL', home .. 'nodes', node) == 1 then
    log(entry)
  end
  fence(node)
  redis.call('HSETNX', home .. 'rec', node, mine)
end

-- What a dead recoverer had taken, itself included, goes to the caller.
changes['take-over'] = function()
  local node = take()
  if redis.call('HEXISTS', home .. 'nodes', node) == 1 then
    return
  end
  local all = redis.call('HGETALL', home .. 'rec')
  for i = 1, #all, 2 do
    if all[i + 1] == node then
      redis.call('HSET', home .. 'rec', all[i], mine)
    end
  end
end

changes['recovered'] = function()
  local node = take()
  redis.call('HDEL', home .. 'rec', node)
  redis.call('HDEL', home .. 'about', node)
  forget_of(node)
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', home .. 'f', cursor, 'MATCH', node .. ':*', 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      redis.call('HDEL', home .. 'f', page[2][i])
    end
  until cursor == '0'
end

while at < #ARGV do
  changes[take()]()
end
count_call()
local reached = redis.call('HMGET', home .. 'meta', 'pos', 'gen')
return { 'OK', tonumber(reached[1] or 0), refused, tonumber(reached[2] or 0) }
