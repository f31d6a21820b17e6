-- Sessions of a bucket. Each is read once in a call, and written at its end.
local sessions = {}

local function session_of(uid)
  local session = sessions[uid]
  if session == nil then
    local record = home .. 's:' .. uid
    local fields = redis.call('HMGET', record, 'expiry', 'owner', 'last', 'bytes', 'given')
    session = fields[1] and {
      record = record,
      owner = fields[2],
      live = open_lane(home .. 'q:' .. uid, 'last', 'bytes', fields[3], fields[4]),
    } or false
    if session then
      session.live.given = tonumber(fields[5] or 0)
    end
    sessions[uid] = session
  end
  return session
end

-- The session, if it is of a client that the caller owns.
local function own_session(uid)
  local session = session_of(uid)
  return session and session.owner == mine and session
end

local function lane_of(session, uid, lane)
  if lane == '0' then
    return session.live
  end
  if not session.replayed then
    local fields = redis.call('HMGET', session.record, 'rlast', 'rbytes')
    session.replayed = open_lane(home .. 'r:' .. uid, 'rlast', 'rbytes', fields[1], fields[2])
  end
  return session.replayed
end

local function close_sessions()
  for _, session in pairs(sessions) do
    if session then
      close_lane(session.record, session.live)
      if session.replayed then
        close_lane(session.record, session.replayed)
      end
    end
  end
end

-- Runs of places, each with how many it has.
changes['d'] = function()
  local uid, lane, runs = take(), take(), tonumber(take())
  local session = own_session(uid)
  for _ = 1, runs do
    local first, places = take(), tonumber(take())
    if session then
      local opened = lane_of(session, uid, lane)
      opened.entries = nil
      done(opened, first, places)
    end
  end
end
