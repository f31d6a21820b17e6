-- Changes of sessions, and their end.

-- What a change has left to do: jobs, sessions that have ended, and what they have left, each with its identity.
local function nothing_left()
  return { {}, {}, {} }
end

-- If groups have given it messages, the queue stays, for the node that is to give them to others.
local function end_session(uid, mid, node, left)
  local session = session_of(uid)
  local given = session and session.live.given or 0
  if given > 0 then
    write_tail(session.live)
    redis.call('HSET', home .. 'rest', mid, uid .. ' ' .. node)
    table.insert(left[3], mid)
    table.insert(left[3], uid)
  else
    redis.call('UNLINK', home .. 'q:' .. uid)
  end
  redis.call('UNLINK', home .. 's:' .. uid, home .. 'r:' .. uid)
  redis.call('SREM', home .. 'sessions', uid)
  sessions[uid] = false
  table.insert(left[2], uid)
end

changes['finish-rest'] = function()
  local uid, mid = take(), take()
  if redis.call('HDEL', home .. 'rest', mid) == 1 then
    redis.call('UNLINK', home .. 'q:' .. uid)
  end
end

changes['s'] = function()
  local uid, expiry, window, away, unsent, sum = take(), take(), take(), take(), take(), take()
  local session = own_session(uid)
  if session then
    redis.call('HSET', session.record, 'expiry', expiry, 'window', window, 'away', away, 'unsent', unsent, 'sum', sum)
  end
end

changes['+'] = function()
  local uid, filter, subscription = take(), take(), take()
  local session = own_session(uid)
  if session then
    redis.call('HSET', session.record, 'sub:' .. filter, subscription)
  end
end

changes['-'] = function()
  local uid, filter = take(), take()
  local session = own_session(uid)
  if session then
    redis.call('HDEL', session.record, 'sub:' .. filter)
  end
end

changes['p'] = function()
  local uid, place, terms, message, filter, cursor = take(), take(), take(), take_message(), take(), take()
  local session = own_session(uid)
  if not session then
    return
  end
  put(lane_of(session, uid, '1'), place, terms, message)
  local subscription = redis.call('HGET', session.record, 'sub:' .. filter)
  if subscription and string.byte(subscription, 8) == 1 then
    redis.call('HSET', session.record, 'sub:' .. filter, string.sub(subscription, 1, 8) .. cursor)
  end
end

changes['x'] = function()
  local uid, filter = take(), take()
  local session = own_session(uid)
  local subscription = session and redis.call('HGET', session.record, 'sub:' .. filter)
  if subscription then
    redis.call('HSET', session.record, 'sub:' .. filter, string.sub(subscription, 1, 7) .. '\0')
  end
end

changes['r'] = function()
  local uid, lane, place, no_terms = take(), take(), take(), take()
  local session = own_session(uid)
  if not session then
    return
  end
  local opened = lane_of(session, uid, lane)
  write_tail(opened)
  -- Places of the live lane are made by messages alone.
  local _, is_found = find(opened.key, place)
  if is_found or lane == '1' then
    release(opened, place, no_terms)
  end
end

changes['i'] = function()
  local uid, packet, message = take(), take(), take_message()
  local session = own_session(uid)
  if session then
    redis.call('HSETNX', session.record, 'in:' .. packet, message)
  end
end

changes['o'] = function()
  local uid, packet = take(), take()
  local session = own_session(uid)
  if session then
    redis.call('HDEL', session.record, 'in:' .. packet)
  end
end

-- The message becomes a job.
changes['b'] = function()
  local uid, packet, mid, head = take(), take(), take(), take()
  local session = own_session(uid)
  local message = session and redis.call('HGET', session.record, 'in:' .. packet)
  if message then
    redis.call('HDEL', session.record, 'in:' .. packet)
    redis.call('HSET', home .. 'jobs', mid, head .. message)
  end
end
