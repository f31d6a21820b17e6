-- Who owns a client, and what is to be done for it.
local function client_key(cid)
  return home .. 'c:' .. cid
end

local function node_of(token)
  return string.match(token, '^%d+')
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local NEVER = 4294967295

local function add_job(mid, head, will)
  redis.call('HSET', home .. 'jobs', mid, head .. will)
end

-- The only place where ownership changes.
local function set_owner(cid, before, owner)
  local key = client_key(cid)
  if before then
    redis.call('SREM', home .. 'own:' .. node_of(before), cid)
  end
  redis.call('HDEL', key, 'opened')
  if owner then
    redis.call('HSET', key, 'owner', owner)
    redis.call('SADD', home .. 'own:' .. node_of(owner), cid)
  else
    redis.call('HDEL', key, 'owner')
  end
end

-- The client is in `t` if nobody owns it and something is due, and gone if there is nothing of it.
local function settle(cid)
  local fields = redis.call('HMGET', client_key(cid), 'owner', 'uid', 'will', 'will_at', 'ends_at')
  local due
  if not fields[1] then
    if not fields[2] and not fields[3] then
      redis.call('DEL', client_key(cid))
    end
    due = math.min(tonumber(fields[4] or math.huge), tonumber(fields[5] or math.huge))
  end
  if due and due < math.huge then
    redis.call('ZADD', home .. 't', whole(due), cid)
  else
    redis.call('ZREM', home .. 't', cid)
  end
end

changes['claim'] = function()
  local cid, token = take(), take()
  local owner = redis.call('HGET', client_key(cid), 'owner')
  if owner then
    redis.call('HSET', client_key(cid), 'next', token)
    tell(node_of(owner), 'n' .. cid)
  else
    set_owner(cid, nil, token)
    settle(cid)
  end
end

local function make_session(uid, cid, expiry, sum, client_sum)
  redis.call('HSET', home .. 's:' .. uid, 'expiry', expiry, 'window', 0, 'away', 0, 'unsent', 0, 'sum', sum,
    'cid', cid, 'csum', client_sum, 'owner', mine)
  redis.call('SADD', home .. 'sessions', uid)
  sessions[uid] = nil
end

changes['open'] = function()
  local cid, token, is_clean, uid, will, mid, head = take(), take(), take() == '1', take(), take(), take(), take()
  local expiry, sum, client_sum = take(), take(), take()
  local key = client_key(cid)
  local fields = redis.call('HMGET', key, 'owner', 'uid', 'will', 'will_at', 'ends_at')
  if fields[1] ~= token then
    return
  end
  local before, wants_one, moment = fields[2], uid ~= '0', now()
  local is_over = fields[5] and tonumber(fields[5]) <= moment
  local resumes = not is_clean and wants_one and before and not is_over
  -- Of the connection before this one: if its session goes on before it is due, it is not to be published any more.
  if fields[3] and fields[4] and (not resumes or tonumber(fields[4]) <= moment) then
    add_job(mid, head, fields[3])
  end
  redis.call('HDEL', key, 'ends_at', 'will_at', 'will')
  redis.call('HSET', key, 'opened', token)
  if will ~= '' then
    redis.call('HSET', key, 'will', will)
  end
  if resumes then
    redis.call('HSET', home .. 's:' .. before, 'owner', mine)
    if sessions[before] then
      sessions[before].owner = mine
    end
    return
  end
  if before then
    end_session(before)
    redis.call('HDEL', key, 'uid')
  end
  if wants_one then
    redis.call('HSET', key, 'uid', uid)
    make_session(uid, cid, expiry, sum, client_sum)
  end
end

-- What becomes of the will: a job, or it waits, or it is not wanted.
local function leave_will(key, uid, has_will, grace, expiry, mid, head)
  local will = has_will and redis.call('HGET', key, 'will')
  if not will then
    redis.call('HDEL', key, 'will', 'will_at')
    return
  end
  -- A session that ends with its connection has no delay.
  local is_last = not uid or expiry == 0
  local delay = is_last and grace or math.max(size(will), grace)
  if delay == 0 then
    add_job(mid, head, will)
    redis.call('HDEL', key, 'will')
  else
    redis.call('HSET', key, 'will_at', whole(now() + delay * 1000))
  end
end

-- The session waits, or ends: then its name.
local function leave_session(key, uid, expiry)
  if expiry == 0 then
    end_session(uid)
    redis.call('HDEL', key, 'uid', 'ends_at')
    return uid
  end
  if expiry < NEVER then
    redis.call('HSET', key, 'ends_at', whole(now() + expiry * 1000))
  else
    redis.call('HDEL', key, 'ends_at')
  end
  redis.call('HDEL', home .. 's:' .. uid, 'owner')
  if sessions[uid] then
    sessions[uid].owner = false
  end
end

-- The connection is over: what it had is for the next one.
local function leave(cid, owner, has_will, grace, expiry, mid, head)
  local key = client_key(cid)
  local fields = redis.call('HMGET', key, 'uid', 'next')
  local uid, next_owner = fields[1], fields[2]
  if uid and not expiry then
    expiry = tonumber(redis.call('HGET', home .. 's:' .. uid, 'expiry') or 0)
  end
  leave_will(key, uid, has_will, grace, expiry, mid, head)
  local ended = uid and leave_session(key, uid, expiry)
  if next_owner then
    redis.call('HDEL', key, 'next')
    if redis.call('HEXISTS', hw, node_of(next_owner)) == 0 then
      next_owner = nil
    end
  end
  set_owner(cid, owner, next_owner)
  if next_owner then
    tell(node_of(next_owner), 'g' .. cid)
  end
  settle(cid)
  return ended
end

changes['release'] = function()
  local cid, token, has_will, grace, expiry = take(), take(), take() == '1', tonumber(take()), tonumber(take())
  local mid, head = take(), take()
  if redis.call('HGET', client_key(cid), 'owner') == token then
    leave(cid, token, has_will, grace, expiry, mid, head)
  end
end

-- Answers with the session that has ended, if one has.
changes['free'] = function()
  local node, cid, mid, head = take(), take(), take(), take()
  local owner = redis.call('HGET', client_key(cid), 'owner')
  local ended
  if owner and node_of(owner) == node then
    ended = leave(cid, owner, true, 0, nil, mid, head)
  end
  answers[#answers + 1] = { ended or nil }
end

changes['finish'] = function()
  redis.call('HDEL', home .. 'jobs', take())
end

changes['fence'] = function()
  fence(take())
end

-- What is due of one client: its will becomes a job; the session, if that has ended.
local function sweep(cid, moment, mid, head)
  local key = client_key(cid)
  local fields = redis.call('HMGET', key, 'uid', 'will', 'ends_at')
  local uid, will, ends_at = fields[1], fields[2], fields[3]
  local ends = ends_at and tonumber(ends_at) <= moment
  redis.call('HDEL', key, 'will_at', 'will')
  if ends then
    redis.call('HDEL', key, 'ends_at', 'uid')
  end
  if will then
    add_job(mid, head, will)
  end
  settle(cid)
  if ends and uid then
    end_session(uid)
    return uid
  end
end

-- Answers with the sessions that have ended.
changes['sweep'] = function()
  local node, first, most, head = take(), tonumber(take()), take(), take()
  local moment, ended = now(), {}
  for place, cid in ipairs(redis.call('ZRANGEBYSCORE', home .. 't', '-inf', whole(moment), 'LIMIT', 0, most)) do
    ended[#ended + 1] = sweep(cid, moment, node .. '.' .. whole(first + place - 1), head)
  end
  answers[#answers + 1] = ended
end

-- A session ends that its owner does not want any more.
changes['e'] = function()
  local uid = take()
  if own_session(uid) then
    local cid = redis.call('HGET', home .. 's:' .. uid, 'cid')
    if redis.call('HGET', client_key(cid), 'uid') == uid then
      redis.call('HDEL', client_key(cid), 'uid')
    end
    end_session(uid)
  end
end
