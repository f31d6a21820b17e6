-- Messages that are put into queues and inboxes.
local prefix = string.match(hw, '^(.-):{')

local function tell(node, event)
  redis.call('PUBLISH', prefix .. ':wake:' .. node, event)
end

-- Limits of what follows, and whether the oldest messages give way. An event has no message that is longer than `longest`. One that is as
-- long as `longest_joined` is told in two parts, so that it does not pass through another string.
local most_messages, most_bytes, longest, drops_oldest, longest_joined = 0, 0, 0, false, 0
changes['l'] = function()
  most_messages, most_bytes, longest, drops_oldest = tonumber(take()), tonumber(take()), tonumber(take()), take() == '1'
  longest_joined = tonumber(take())
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

-- What owners are told of their queues: for each node one event, or a few.
local news = {}

local function tell_news(node, pieces)
  tell(node, 'm' .. table.concat(pieces))
  news[node] = nil
end

-- Messages at so many places, from this one on, as they are in a run; '' if they are not told.
local function wake(node, uid, place, messages, entries)
  local head = eight(uid)
    .. struct.pack('>I4I4I4', math.floor(place / 4294967296), place % 4294967296, messages)
  local pieces = news[node]
  if #entries > longest_joined then
    if pieces then
      tell_news(node, pieces)
    end
    tell(node, 'M' .. head)
    tell(node, entries)
    return
  end
  pieces = pieces or {}
  news[node] = pieces
  pieces[#pieces + 1] = head
  pieces[#pieces + 1] = struct.pack('>I4', #entries)
  pieces[#pieces + 1] = entries
  if #pieces > 3000 then
    tell_news(node, pieces)
  end
end

-- The answer: the place, or why there is none to tell.
local GONE, FULL, KNOWN, ELSEWHERE = -1, -2, -3, -4

local function has_room(lane, messages, bytes)
  if not lane.entries then
    lane.entries = (redis.call('LLEN', lane.key) + #lane.tail) / 3
  end
  return lane.entries + messages <= most_messages and lane.bytes + bytes <= most_bytes
end

local function next_place(lane)
  return lane.last == '' and 0 or tonumber(lane.last) + 1
end

-- What is needed seldom is made when it is: a function costs more than to put a message into a queue.
local closers = {}
local append_one, add_rest

-- Messages of one session, all of which there is room for. Behind the first byte of the entries are the terms and the message of each.
local function append_run(session, uid, messages, bytes, entries)
  local lane, first, from = session.live, next_place(session.live), 2
  local tail = lane.tail
  local filled = #tail
  for place = first, first + messages - 1 do
    tail[filled + 1] = string.format('%d', place)
    tail[filled + 2], tail[filled + 3], from = struct.unpack('>I4c0I4c0', entries, from)
    filled = filled + 3
  end
  lane.last = tail[filled - 2]
  lane.bytes = lane.bytes + bytes
  lane.entries = lane.entries + messages
  lane.is_changed = true
  if session.owner == mine then
    return first
  end
  if session.owner then
    wake(session.owner, uid, first, messages, longest > 0 and entries or '')
  end
  return ELSEWHERE
end

-- What has become of each, as there is no room for all.
local function append_each(uid, messages, entries)
  if not append_one then
    add_rest()
  end
  local each, from = {}, 2
  for number = 1, messages do
    local terms, message
    terms, message, from = struct.unpack('>I4c0I4c0', entries, from)
    each[number] = append_one(uid, terms, message, '')
  end
  return each
end

-- Runs of messages, each for one session: none of them is of a group, or long. Answers for each run the first place, or what has become of
-- all its messages, or of each.
changes['q'] = function()
  for _ = 1, tonumber(take()) do
    local uid, messages, bytes = struct.unpack('>I1c0I4I4', take())
    local entries = take()
    local session = session_of(uid)
    local answer = GONE
    if session and has_room(session.live, messages, bytes) then
      answer = append_run(session, uid, messages, bytes, entries)
    elseif session then
      answer = append_each(uid, messages, entries)
    end
    answers[#answers + 1] = answer
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

-- Any number of messages, as their reader wants them. One answer for all.
changes['post'] = function()
  local node, name, _, text = take(), take(), take(), take()
  local answer = GONE
  if redis.call('HEXISTS', hw, node) == 1 then
    post(node, name, text)
    answer = ELSEWHERE
  end
  answers[#answers + 1] = answer
end

local function close_inboxes()
  for key, inbox in pairs(inboxes) do
    local entry = inbox[2] and table.concat(inbox) or inbox[1]
    if string.find(key, '}:in0:', 1, true) then
      redis.call('XADD', key, 'MAXLEN', '~', 10000, '1-*', 'e', entry)
    else
      redis.call('XADD', key, '1-*', 'e', entry)
    end
  end
  inboxes = {}
end
