-- Lanes of a session: lists of places, terms and messages, in the order of places. What is put at the end waits in `tail`.
local function open_lane(key, last_field, bytes_field, last_place, bytes)
  return {
    key = key,
    last_field = last_field,
    bytes_field = bytes_field,
    last = last_place or '',
    bytes = tonumber(bytes or 0),
    tail = {},
  }
end

local function write_tail(lane)
  local tail = lane.tail
  for first = 1, #tail, 999 do
    redis.call('RPUSH', lane.key, unpack(tail, first, math.min(first + 998, #tail)))
  end
  if #tail > 0 then
    lane.tail = {}
  end
end

-- Of a Shared Subscription, and so for another member if the session ends: of QoS 1.
local function goes_on(terms)
  local flags = string.byte(terms, 7)
  return flags and flags % 4 == 1 and flags % 32 >= 16
end

-- One message more, or one less. A lane that has `given` counts in it those that go on.
local function count(lane, terms, sign)
  lane.bytes = lane.bytes + sign * size(terms)
  lane.is_changed = true
  if lane.given and goes_on(terms) then
    lane.given = lane.given + sign
    lane.is_given_changed = true
  end
end

-- Puts an entry where its place is, behind which there are others.
local function insert(lane, place, terms, body)
  write_tail(lane)
  local key = lane.key
  local where, is_taken, entries = find(key, place)
  if is_taken then
    return
  end
  if where == entries then
    redis.call('RPUSH', key, place, terms, body)
  elseif where == 0 then
    redis.call('LPUSH', key, body, terms, place)
  elseif entries - where < 300 then
    local behind = redis.call('LRANGE', key, where * 3, -1)
    redis.call('LTRIM', key, 0, where * 3 - 1)
    redis.call('RPUSH', key, place, terms, body, unpack(behind))
  else
    -- Neither terms nor bodies begin with a digit.
    local next_place = redis.call('LINDEX', key, where * 3)
    redis.call('LINSERT', key, 'BEFORE', next_place, place)
    redis.call('LINSERT', key, 'BEFORE', next_place, terms)
    redis.call('LINSERT', key, 'BEFORE', next_place, body)
  end
  count(lane, terms, 1)
end

local function put(lane, place, terms, body)
  if lane.last ~= '' and not below(lane.last, place) then
    return insert(lane, place, terms, body)
  end
  local tail = lane.tail
  tail[#tail + 1] = place
  tail[#tail + 1] = terms
  tail[#tail + 1] = body
  lane.last = place
  count(lane, terms, 1)
end

local function drop_first(lane, entries)
  if entries > 0 then
    redis.call('LTRIM', lane.key, entries * 3, -1)
  end
end

local function remove(lane, place)
  local key = lane.key
  local where, is_found, entries = find(key, place)
  if is_found then
    count(lane, redis.call('LINDEX', key, where * 3 + 1), -1)
    -- No element is '-'.
    for part = 0, 2 do
      redis.call('LSET', key, where * 3 + part, '-')
    end
    redis.call('LREM', key, where * 2 < entries and 3 or -3, '-')
  end
end

-- Finishes so many places, which `take` yields.
local function done(lane, places, take)
  write_tail(lane)
  local finished = 0
  for _ = 1, places do
    local place = take()
    local first = redis.call('LRANGE', lane.key, finished * 3, finished * 3 + 1)
    if first[1] == place then
      count(lane, first[2], -1)
      finished = finished + 1
    else
      drop_first(lane, finished)
      finished = 0
      remove(lane, place)
    end
  end
  drop_first(lane, finished)
end

local function release(lane, place, no_terms)
  write_tail(lane)
  local where, is_found = find(lane.key, place)
  if not is_found then
    return put(lane, place, no_terms, '')
  end
  local terms = redis.call('LINDEX', lane.key, where * 3 + 1)
  lane.bytes = lane.bytes - size(terms)
  lane.is_changed = true
  redis.call('LSET', lane.key, where * 3 + 1, '\0\0\0\0' .. string.sub(terms, 5))
  redis.call('LSET', lane.key, where * 3 + 2, '')
end

-- Writes what has waited, and what the lane comes to.
local function close_lane(record, lane)
  write_tail(lane)
  if lane.is_changed then
    redis.call('HSET', record, lane.last_field, lane.last, lane.bytes_field, lane.bytes)
  end
  if lane.is_given_changed then
    redis.call('HSET', record, 'given', lane.given)
  end
end
