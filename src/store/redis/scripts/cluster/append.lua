-- Messages that are put into queues and inboxes.
local prefix = string.match(hw, '^(.-):{')

local function tell(node, event)
  redis.call('PUBLISH', prefix .. ':wake:' .. node, event)
end

-- Limits of what follows. An event has no message that is longer than `longest`.
local most_messages, most_bytes, longest = 0, 0, 0
changes['l'] = function()
  most_messages, most_bytes, longest = tonumber(take()), tonumber(take()), tonumber(take())
end

-- What has been put where of messages that must have effect once.
local onces = {}

local function once_of(mid, of)
  local once = onces[mid]
  if not once then
    once = { text = redis.call('HGET', home .. 'm2', mid) or of, known = {} }
    for queue in string.gmatch(once.text, ' (%w+)') do
      once.known[queue] = true
    end
    onces[mid] = once
  end
  return once
end

local function is_known(mid, of, queue)
  return mid ~= '' and once_of(mid, of).known[queue]
end

local function know(mid, of, queue)
  if mid ~= '' then
    local once = once_of(mid, of)
    once.known[queue] = true
    once.text = once.text .. ' ' .. queue
    once.is_changed = true
  end
end

local function close_onces()
  for mid, once in pairs(onces) do
    if once.is_changed then
      redis.call('HSET', home .. 'm2', mid, once.text)
    end
  end
  onces = {}
end

changes['forget'] = function()
  local mid = take()
  onces[mid] = nil
  redis.call('HDEL', home .. 'm2', mid)
end

changes['forget-of'] = function()
  local node = take()
  close_onces()
  local all = redis.call('HGETALL', home .. 'm2')
  for i = 1, #all, 2 do
    if string.match(all[i + 1], '^%d+') == node then
      redis.call('HDEL', home .. 'm2', all[i])
    end
  end
end

-- 8 bytes: a number of Lua does not hold all of them. With five digits at a time it holds what lies between.
local function eight(digits)
  local high, low = 0, 0
  for first = 1, #digits, 5 do
    local part = string.sub(digits, first, first + 4)
    local scale = 10 ^ #part
    low = low * scale + tonumber(part)
    local carry = math.floor(low / 4294967296)
    low = low - carry * 4294967296
    high = high * scale + carry
  end
  return struct.pack('>I4I4', high, low)
end

local function wake(node, uid, number_of_place, terms, message)
  if #message > longest then
    terms, message = '', ''
  end
  local place = struct.pack('>I4I4', math.floor(number_of_place / 4294967296), number_of_place % 4294967296)
  tell(node, 'm' .. eight(uid) .. place .. struct.pack('>I4', #terms) .. terms .. message)
end

-- The answer: the place, or why there is none to tell.
local GONE, FULL, KNOWN, ELSEWHERE = -1, -2, -3, -4

-- The Shared Subscription that terms name. Flags say what they have: Subscription Identifiers are before it.
local function share_of(terms)
  local flags, from = string.byte(terms, 7), 8
  if flags % 32 < 16 then
    return nil
  end
  if flags % 16 >= 8 then
    from = 12 + struct.unpack('>I4', terms, 8)
  end
  local length = struct.unpack('>I2', terms, from)
  return string.sub(terms, from + 2, from + 1 + length)
end

-- The name of a queue: a group puts messages there beside what the session gets for itself.
local function queue_of(uid, share)
  return share and uid .. 's' .. redis.sha1hex(share) or uid
end

local function append(uid, terms, message, mid, of)
  local queue = mid ~= '' and queue_of(uid, share_of(terms))
  if is_known(mid, of, queue) then
    return KNOWN
  end
  local session = session_of(uid)
  if not session then
    return GONE
  end
  local lane, bytes = session.live, size(terms)
  if not lane.entries then
    lane.entries = (redis.call('LLEN', lane.key) + #lane.tail) / 3
  end
  if lane.entries >= most_messages or lane.bytes + bytes > most_bytes then
    return FULL
  end
  know(mid, of, queue)
  lane.entries = lane.entries + 1
  local number_of_place = lane.last == '' and 0 or tonumber(lane.last) + 1
  local place = whole(number_of_place)
  put(lane, place, terms, message)
  if session.owner == mine then
    return number_of_place
  end
  if session.owner then
    wake(session.owner, uid, number_of_place, terms, message)
  end
  return ELSEWHERE
end

changes['a'] = function()
  local message, mid, of = take_message(), take(), take()
  for _ = 1, tonumber(take()) do
    local uid, terms = take(), take()
    answers[#answers + 1] = append(uid, terms, message, mid, of)
  end
end

-- What has been put into inboxes: one entry for each.
local inboxes = {}

local function post(node, name, text)
  local key = home .. name .. ':' .. node
  local inbox = inboxes[key] or {}
  inboxes[key] = inbox
  inbox[#inbox + 1] = text
end

-- Any number of messages, as their reader wants them.
changes['post'] = function()
  local node, name, messages, text = take(), take(), tonumber(take()), take()
  local answer = GONE
  if redis.call('HEXISTS', hw, node) == 1 then
    post(node, name, text)
    answer = ELSEWHERE
  end
  for _ = 1, messages do
    answers[#answers + 1] = answer
  end
end

-- One that must have effect once.
changes['n'] = function()
  local message, mid, of, node, name, head = take_message(), take(), take(), take(), take(), take()
  local answer, queue = ELSEWHERE, 'n' .. node
  if string.byte(head) == 1 then
    -- For a member of a Shared Subscription, beside what the node gets for others.
    queue = queue .. 's' .. redis.sha1hex(head)
  end
  if is_known(mid, of, queue) then
    answer = KNOWN
  elseif redis.call('HEXISTS', hw, node) == 0 then
    answer = GONE
  else
    know(mid, of, queue)
    -- Without its checksum.
    post(node, name, head .. string.sub(message, 1, -5))
  end
  answers[#answers + 1] = answer
end

local function close_inboxes()
  for key, inbox in pairs(inboxes) do
    local entry = table.concat(inbox)
    if string.find(key, '}:in0:', 1, true) then
      redis.call('XADD', key, 'MAXLEN', '~', 10000, '1-*', 'e', entry)
    else
      redis.call('XADD', key, '1-*', 'e', entry)
    end
  end
  inboxes = {}
end

changes['destroy'] = function()
  local node = take()
  close_inboxes()
  redis.call('UNLINK', home .. 'in:' .. node, home .. 'in0:' .. node)
end
