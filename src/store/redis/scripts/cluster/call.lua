-- The head of a call that has effect once. KEYS: hw.
-- ARGV: incarnation, number of the call, how many messages, these, changes.
local hw = KEYS[1]
local home = string.sub(hw, 1, -3)
local mine, number = ARGV[1], tonumber(ARGV[2])

local last_call = redis.call('HGET', hw, mine)
if not last_call then
  return 'FENCED'
end
if number <= tonumber(last_call) then
  -- WAIT counts replicas that have the last write of its connection: there must be one.
  redis.call('HSET', hw, mine, last_call)
  return 'DONE'
end
if number > tonumber(last_call) + 1 then
  return { 'GAP', last_call }
end

local messages = 3
local at = messages + tonumber(ARGV[3])
local function take()
  at = at + 1
  return ARGV[at]
end

local function take_message()
  return ARGV[messages + tonumber(take())]
end

-- A number as text, which has more digits than Lua writes by itself.
local function whole(value)
  return string.format('%.0f', value)
end

-- None of this incarnation may write here any more, and none before it may begin to.
local is_fenced = false
local function fence(node)
  is_fenced = is_fenced or node == mine
  redis.call('HDEL', hw, node)
  local top = redis.call('HGET', hw, 'top')
  if not top or tonumber(top) < tonumber(node) then
    redis.call('HSET', hw, 'top', node)
  end
end

local answers = { 'OK' }
local changes = {}

local function count_call()
  if not is_fenced then
    redis.call('HSET', hw, mine, number)
  end
end
