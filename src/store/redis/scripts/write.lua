-- Applies changes to one home, once. KEYS: hw.
-- ARGV: incarnation, number of the call, the hw of a home in which the incarnation must be as well (or nothing), how many
-- messages, these, changes.
local hw = KEYS[1]
local home = string.sub(hw, 1, -3)
local mine, number = ARGV[1], tonumber(ARGV[2])

local last = redis.call('HGET', hw, mine)
if not last or (ARGV[3] ~= '' and redis.call('HEXISTS', ARGV[3], mine) == 0) then
  return redis.call('EXISTS', hw) == 1 and 'FENCED' or 'NOHOME'
end
if number <= tonumber(last) then
  -- WAIT counts replicas that have the last write of its connection: there must be one.
  redis.call('HSET', hw, mine, last)
  return 'DONE'
end
if number > tonumber(last) + 1 then
  return 'GAP'
end

local at = 4
local function take()
  at = at + 1
  return ARGV[at]
end

local messages = 4
at = at + tonumber(ARGV[4])

local uid, record, session, is_known, is_touched
local lanes

-- Whether the session is there.
local function is_there()
  if not is_known then
    is_known = true
    local fields = redis.call('HMGET', record, 'floor', 'last', 'bytes', 'rlast', 'rbytes')
    session = fields[1] and { floor = fields[1] }
    if session then
      lanes = {
        ['0'] = open_lane(home .. 'q:' .. uid, 'last', 'bytes', fields[2], fields[3]),
        ['1'] = open_lane(home .. 'r:' .. uid, 'rlast', 'rbytes', fields[4], fields[5]),
      }
    end
  end
  return session
end

local function raise_floor(lane, place)
  if not below(session.floor, place) then
    return
  end
  session.floor = place
  session.is_raised = true
  write_tail(lane)
  local finished = 0
  while true do
    local first = redis.call('LRANGE', lane.key, finished * 3, finished * 3 + 1)
    if not first[1] or not below(first[1], place) then
      break
    end
    count(lane, first[2], -1)
    finished = finished + 1
  end
  drop_first(lane, finished)
end

-- Who cares for the session or the will: its owner, or the clock.
local function settle()
  local fields = redis.call('HMGET', record, 'expiry', 'away')
  local delay = redis.call('GETRANGE', home .. 'w:' .. uid, 0, 3)
  local is_away = fields[1] and fields[2] ~= '0'
  local due
  if is_away then
    if fields[1] ~= '4294967295' then
      due = tonumber(fields[1])
    end
    if delay ~= '' then
      due = math.min(due or math.huge, size(delay))
    end
  end
  if due then
    redis.call('ZADD', home .. 't', tonumber(fields[2]) + due * 1000, uid)
  else
    redis.call('ZREM', home .. 't', uid)
  end
  if (fields[1] and not is_away) or (not fields[1] and delay ~= '') then
    redis.call('SADD', home .. 'own:' .. mine, uid)
  else
    redis.call('SREM', home .. 'own:' .. mine, uid)
  end
end

local function close()
  if is_known and session then
    for _, lane in pairs(lanes) do
      close_lane(record, lane)
    end
    if session.is_raised then
      redis.call('HSET', record, 'floor', session.floor)
    end
  end
  if is_touched then
    settle()
  end
end

local changes = {}

-- The changes behind it are those of this session.
changes['u'] = function()
  if uid then
    close()
  end
  uid = take()
  record = home .. 's:' .. uid
  session, is_known, is_touched = nil, false, false
end

changes['s'] = function()
  local expiry, window, away, unsent, sum, client, csum = take(), take(), take(), take(), take(), take(), take()
  is_touched = true
  if is_there() then
    redis.call('HSET', record, 'expiry', expiry, 'window', window, 'away', away, 'unsent', unsent, 'sum', sum)
    return
  end
  redis.call('HSET', record, 'expiry', expiry, 'window', window, 'away', away, 'unsent', unsent, 'sum', sum,
    'cid', client, 'csum', csum, 'floor', '0')
  redis.call('SADD', home .. 'sessions', uid)
  is_known = false
end

changes['e'] = function()
  is_touched = true
  redis.call('UNLINK', record, home .. 'q:' .. uid, home .. 'r:' .. uid)
  redis.call('SREM', home .. 'sessions', uid)
  session, is_known = false, true
end

changes['+'] = function()
  local filter, subscription = take(), take()
  if is_there() then
    redis.call('HSET', record, 'sub:' .. filter, subscription)
  end
end

changes['-'] = function()
  local filter = take()
  if is_there() then
    redis.call('HDEL', record, 'sub:' .. filter)
  end
end

changes['a'] = function()
  for _ = 1, tonumber(take()) do
    local place, terms, message = take(), take(), take()
    if is_there() and not below(place, session.floor) then
      put(lanes['0'], place, terms, ARGV[messages + tonumber(message)])
    end
  end
end

changes['p'] = function()
  local place, terms, message, filter, cursor = take(), take(), take(), take(), take()
  if not is_there() then
    return
  end
  put(lanes['1'], place, terms, ARGV[messages + tonumber(message)])
  local subscription = redis.call('HGET', record, 'sub:' .. filter)
  if subscription and string.byte(subscription, 8) == 1 then
    redis.call('HSET', record, 'sub:' .. filter, string.sub(subscription, 1, 8) .. cursor)
  end
end

changes['x'] = function()
  local filter = take()
  local subscription = is_there() and redis.call('HGET', record, 'sub:' .. filter)
  if subscription then
    redis.call('HSET', record, 'sub:' .. filter, string.sub(subscription, 1, 7) .. '\0')
  end
end

changes['r'] = function()
  local lane, place, no_terms = take(), take(), take()
  if is_there() and not (lane == '0' and below(place, session.floor)) then
    release(lanes[lane], place, no_terms)
  end
end

changes['d'] = function()
  local lane, places = take(), tonumber(take())
  if is_there() then
    done(lanes[lane], places, take)
  else
    at = at + places
  end
end

changes['f'] = function()
  local place = take()
  if is_there() then
    raise_floor(lanes['0'], place)
  end
end

changes['i'] = function()
  local packet, sum = take(), take()
  if is_there() then
    redis.call('HSET', record, 'in:' .. packet, sum)
  end
end

changes['o'] = function()
  local packet = take()
  if is_there() then
    redis.call('HDEL', record, 'in:' .. packet)
  end
end

changes['w'] = function()
  is_touched = true
  redis.call('SET', home .. 'w:' .. uid, take())
  redis.call('SADD', home .. 'wills', uid)
end

changes['z'] = function()
  is_touched = true
  redis.call('DEL', home .. 'w:' .. uid)
  redis.call('SREM', home .. 'wills', uid)
end

changes['R'] = function()
  local topic = take()
  redis.call('HSET', home .. 'ret', topic, take())
end

changes['C'] = function()
  redis.call('HDEL', home .. 'ret', take())
end

changes['B'] = function()
  redis.call('HSET', home .. 'meta', 'batch', take())
end

-- The calls for other homes, until they have been made.
changes['J'] = function()
  redis.call('SET', home .. 'j', take())
end

while at < #ARGV do
  changes[take()]()
end
if uid then
  close()
end
redis.call('HSET', hw, mine, number)
return 'OK'
