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

-- 8 bytes: a number of Lua does not hold all of them.
local function eight(digits)
  local high, low = 0, 0
  for digit in string.gmatch(digits, '%d') do
    low = low * 10 + tonumber(digit)
    local carry = math.floor(low / 4294967296)
    low = low - carry * 4294967296
    high = high * 10 + carry
  end
  return struct.pack('>I4I4', high, low)
end

local function wake(node, uid, place, terms, message)
  if #message > longest then
    terms, message = '', ''
  end
  tell(node, 'm' .. eight(uid) .. eight(place) .. struct.pack('>I4', #terms) .. terms .. message)
end

-- The answer: the place, or why there is none to tell.
local GONE, FULL, KNOWN, ELSEWHERE = -1, -2, -3, -4

local function append(uid, terms, message, mid, of)
  local session = session_of(uid)
  if not session then
    return GONE
  end
  -- For a Shared Subscription, beside what the session gets for itself: a flag of the terms says so.
  local queue = uid
  if mid ~= '' and string.byte(terms, 7) % 32 >= 16 then
    queue = uid .. 's' .. redis.sha1hex(string.sub(terms, 7))
  end
  if is_known(mid, of, queue) then
    return KNOWN
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
    wake(session.owner, uid, place, terms, message)
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

changes['n'] = function()
  local message, mid, of, node, name, head = take_message(), take(), take(), take(), take(), take()
  local answer, queue = ELSEWHERE, 'n' .. node
  if string.byte(head) == 1 then
    -- For a member of a Shared Subscription, beside what the node gets for others.
    queue = queue .. 's' .. redis.sha1hex(head)
  end
  if redis.call('HEXISTS', hw, node) == 0 then
    answer = GONE
  elseif is_known(mid, of, queue) then
    answer = KNOWN
  else
    know(mid, of, queue)
    local key = home .. name .. ':' .. node
    local inbox = inboxes[key] or {}
    inboxes[key] = inbox
    -- Without its checksum.
    inbox[#inbox + 1] = head .. string.sub(message, 1, -5)
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
