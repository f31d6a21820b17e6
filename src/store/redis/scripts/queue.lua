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

-- Removes one of the entries, of which all are in the list.
local function remove_at(lane, where, entries)
  local key = lane.key
  count(lane, redis.call('LINDEX', key, where * 3 + 1), -1)
  -- No element is '-'.
  for part = 0, 2 do
    redis.call('LSET', key, where * 3 + part, '-')
  end
  redis.call('LREM', key, where * 2 < entries and 3 or -3, '-')
end

local function remove(lane, place)
  local where, is_found, entries = find(lane.key, place)
  if is_found then
    remove_at(lane, where, entries)
  end
end

-- Removes the first entries, if they have just these places: whether they had. Places go up, so that what begins and ends as this does
-- has all of them.
local function done_at_head(lane, first, places)
  local entries = redis.call('LRANGE', lane.key, 0, places * 3 - 2)
  local last = (places - 1) * 3
  if entries[1] ~= first or (last > 0 and tonumber(entries[last + 1]) ~= tonumber(first) + places - 1) then
    return false
  end
  for terms = 2, last + 2, 3 do
    count(lane, entries[terms], -1)
  end
  redis.call('LTRIM', lane.key, places * 3, -1)
  return true
end

-- Finishes this place and those behind it, so many in all: at once, if they are at the head and not so long that it is too much to read.
local function done(lane, first, places)
  write_tail(lane)
  local at_once = 1
  if places > 1 and lane.bytes * 100 <= 65536 * redis.call('LLEN', lane.key) / 3 then
    at_once = 100
  end
  local place, finished = first, 0
  while finished < places do
    local some = math.min(at_once, places - finished)
    if not done_at_head(lane, place, some) then
      if some > 1 then
        at_once, some = 1, 0
      else
        remove(lane, place)
      end
    end
    finished = finished + some
    place = string.format('%d', tonumber(first) + finished)
  end
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
