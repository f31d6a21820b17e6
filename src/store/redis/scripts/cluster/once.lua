-- Messages that are put into queues one by one: long ones, those of groups, and those that must have effect once.

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

closers[#closers + 1] = close_onces

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
  redis.call('SREM', home .. 'fenced', node)
end

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

-- Without a message that is too long to be told.
local function wake_of_one(node, uid, place, terms, message)
  local is_told = #message <= longest
  wake(node, uid, place, 1, is_told and 'E' .. struct.pack('>I4c0I4c0', #terms, terms, #message, message) or '')
end

-- How many of the first entries may have been sent: those below `unsent`, and of a client that is connected as many as its
-- window has.
local function in_flight(session)
  local fields = redis.call('HMGET', session.record, 'window', 'unsent')
  local below_unsent = find(session.live.key, fields[2])
  return math.max(below_unsent, math.min(tonumber(fields[1]), session.live.entries))
end

local function bytes_of_first(lane, entries)
  local bytes = 0
  for entry = 0, entries - 1 do
    bytes = bytes + size(redis.call('LINDEX', lane.key, entry * 3 + 1))
  end
  return bytes
end

-- Whether there is room for one more of so many bytes, and how many of the oldest have given way. Those in flight count for the
-- bytes alone, and don't give way.
local function make_room(session, bytes)
  local lane = session.live
  write_tail(lane)
  local flying, dropped = in_flight(session), 0
  local is_too_long = lane.bytes + bytes > most_bytes
  if is_too_long and drops_oldest then
    is_too_long = bytes_of_first(lane, flying) + bytes > most_bytes
  end
  if is_too_long or most_messages == 0 then
    return false, dropped
  end
  while lane.entries - flying >= most_messages or lane.bytes + bytes > most_bytes do
    if not drops_oldest then
      return false, dropped
    end
    remove_at(lane, flying, lane.entries)
    lane.entries = lane.entries - 1
    dropped = dropped + 1
  end
  return true, dropped
end

-- Answers with the place, and how many messages have given way if some have.
local function answer_of(place, dropped)
  return dropped > 0 and { place, dropped } or place
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
  local lane = session.live
  local is_room, dropped = true, 0
  if not has_room(lane, 1, size(terms)) then
    is_room, dropped = make_room(session, size(terms))
  end
  if not is_room then
    return FULL
  end
  know(mid, of, queue)
  lane.entries = lane.entries + 1
  local place = next_place(lane)
  put(lane, whole(place), terms, message)
  if session.owner == mine then
    return answer_of(place, dropped)
  end
  if session.owner then
    wake_of_one(session.owner, uid, place, terms, message)
  end
  return answer_of(ELSEWHERE, dropped)
end

append_one = append

changes['a'] = function()
  local message, mid, of = take_message(), take(), take()
  for _ = 1, tonumber(take()) do
    local uid, terms = take(), take()
    answers[#answers + 1] = append(uid, terms, message, mid, of)
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

changes['destroy'] = function()
  local node = take()
  close_inboxes()
  redis.call('UNLINK', home .. 'in:' .. node, home .. 'in0:' .. node)
end
