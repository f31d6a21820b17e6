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

-- Until it has been published, whoever gets the client waits.
local function add_will(key, mid, head, will, left)
  redis.call('HSET', home .. 'jobs', mid, head .. will)
  local before = redis.call('HGET', key, 'wills')
  redis.call('HSET', key, 'wills', before and before .. ' ' .. mid or mid)
  table.insert(left[1], mid)
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
  local fields = redis.call('HMGET', client_key(cid), 'owner', 'uid', 'will', 'will_at', 'ends_at', 'wills')
  local due
  if not fields[1] then
    if not fields[2] and not fields[3] and not fields[6] then
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
    tell(node_of(owner), 'n' .. owner .. ' ' .. cid)
  else
    set_owner(cid, nil, token)
    settle(cid)
  end
end

-- Nothing has been done with it yet.
local function make_session(uid, cid, expiry, sum, client_sum)
  redis.call('HSET', home .. 's:' .. uid, 'expiry', expiry, 'window', 0, 'away', 0, 'unsent', 0, 'sum', sum,
    'cid', cid, 'csum', client_sum, 'owner', mine)
  redis.call('SADD', home .. 'sessions', uid)
  redis.call('HSET', client_key(cid), 'uid', uid)
  sessions[uid] = nil
end

-- The will of the connection before this one. If its session goes on, or its node has left, and it is not due yet, it is not
-- to be published any more.
local function open_will(key, fields, resumes, moment, mid, head, left)
  local will, will_at, is_left = fields[3], fields[4], fields[6]
  local is_back = will_at and tonumber(will_at) > moment and (resumes or is_left)
  if will and will_at and not is_back then
    add_will(key, mid, head, will, left)
  end
end

-- Whether `open` would end a session, drop a will that waits, or change when the session ends.
local function takes_away(fields, resumes, is_over, expiry, moment)
  local uid, will, will_at = fields[2], fields[3], fields[4]
  if will and will_at and tonumber(will_at) > moment then
    return true
  end
  return uid and not is_over and not (resumes and redis.call('HGET', home .. 's:' .. uid, 'expiry') == expiry)
end

-- Answers with what is left to do. With `is_early`, nothing happens if that takes anything away: see `ClusterOp::OpenEarly`.
local function open(is_early)
  local cid, token, is_clean, uid, will, mid, head = take(), take(), take() == '1', take(), take(), take(), take()
  local expiry, sum, client_sum = take(), take(), take()
  local key, left = client_key(cid), nothing_left()
  answers[#answers + 1] = left
  local fields = redis.call('HMGET', key, 'owner', 'uid', 'will', 'will_at', 'ends_at', 'left')
  if fields[1] ~= token then
    return
  end
  local before, wants_one, moment = fields[2], uid ~= '0', now()
  local is_over = fields[5] and tonumber(fields[5]) <= moment
  local resumes = not is_clean and wants_one and before and not is_over
  if is_early and takes_away(fields, resumes, is_over, expiry, moment) then
    return
  end
  open_will(key, fields, resumes, moment, mid, head, left)
  redis.call('HDEL', key, 'ends_at', 'will_at', 'will', 'left')
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
    end_session(before, mid, node_of(token), left)
    redis.call('HDEL', key, 'uid')
  end
  if wants_one then
    make_session(uid, cid, expiry, sum, client_sum)
  end
end

changes['open'] = function()
  open(false)
end

changes['open-early'] = function()
  open(true)
end

changes['lend'] = function()
  local cid, token, uid, sum, client_sum = take(), take(), take(), take(), take()
  local fields = redis.call('HMGET', client_key(cid), 'owner', 'uid')
  if fields[1] == token and not fields[2] then
    make_session(uid, cid, 0, sum, client_sum)
  end
end

-- What becomes of the will: a job, or it waits, or it is not wanted. `grace` is not 0 if its node leaves.
local function leave_will(key, is_last, has_will, grace, mid, head, left)
  local will = has_will and redis.call('HGET', key, 'will')
  redis.call('HDEL', key, 'will_at', 'left')
  if not will then
    redis.call('HDEL', key, 'will')
    return
  end
  -- A session that ends with its connection has no delay.
  local delay = is_last and 0 or size(will)
  if grace > 0 then
    delay = math.max(delay, grace)
    redis.call('HSET', key, 'left', 1)
  end
  if delay == 0 then
    add_will(key, mid, head, will, left)
    redis.call('HDEL', key, 'will')
  else
    redis.call('HSET', key, 'will_at', whole(now() + delay * 1000))
  end
end

-- The session waits, or ends.
local function leave_session(key, uid, expiry, mid, node, left)
  if expiry == 0 then
    end_session(uid, mid, node, left)
    redis.call('HDEL', key, 'uid', 'ends_at')
    return
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

-- Of an owner that has opened the client: what waits of a connection before it goes on waiting else.
local function leave_opened(key, uid, node, how, mid, head, left)
  local expiry = how.ends and 0 or how.expiry
  if uid then
    expiry = expiry or tonumber(redis.call('HGET', home .. 's:' .. uid, 'expiry') or 0)
  end
  leave_will(key, not uid or expiry == 0, how.has_will, how.grace, mid, head, left)
  if uid then
    leave_session(key, uid, expiry, mid, node, left)
  end
end

-- The connection is over: what it had is for the next one. What is left to do, by this node.
local function leave(cid, owner, node, how, mid, head)
  local key, left = client_key(cid), nothing_left()
  local uid, next_owner, opened = unpack(redis.call('HMGET', key, 'uid', 'next', 'opened'))
  if opened == owner then
    leave_opened(key, uid, node, how, mid, head, left)
  elseif uid and how.ends then
    leave_session(key, uid, 0, mid, node, left)
  end
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
  return left
end

changes['release'] = function()
  local cid, token = take(), take()
  local how = { has_will = take() == '1', grace = tonumber(take()), expiry = tonumber(take()) }
  local mid, head = take(), take()
  local is_owner = redis.call('HGET', client_key(cid), 'owner') == token
  answers[#answers + 1] = is_owner and leave(cid, token, node_of(token), how, mid, head) or nothing_left()
end

-- Of a dead node: as if the connection had been lost. What is left to do is of that node.
changes['free'] = function()
  local node, cid = take(), take()
  local how = { has_will = true, grace = tonumber(take()), ends = take() == '1' }
  local mid, head = take(), take()
  local owner = redis.call('HGET', client_key(cid), 'owner')
  local is_owner = owner and node_of(owner) == node
  answers[#answers + 1] = is_owner and leave(cid, owner, node, how, mid, head) or nothing_left()
end

-- The session of a client that nobody owns.
local function end_session_of(cid, mid)
  local key, left = client_key(cid), nothing_left()
  local uid = redis.call('HGET', key, 'uid')
  if uid then
    leave_session(key, uid, 0, mid, mine, left)
    settle(cid)
  end
  return left
end

-- Of a client that was connected when writes were lost: what its session was is not known. Nothing if it has a connection of a newer
-- generation, or a session that began there.
changes['end-session'] = function()
  local cid, generation = take(), tonumber(take())
  local how = { has_will = true, grace = tonumber(take()), ends = true }
  local mid, head = take(), take()
  local owner = redis.call('HGET', client_key(cid), 'owner')
  local left
  local uid = redis.call('HGET', client_key(cid), 'uid')
  if uid and math.floor(tonumber(uid) / 2 ^ 40) > generation then
    left = nil
  elseif not owner then
    left = end_session_of(cid, mid)
  elseif tonumber(node_of(owner)) <= generation then
    left = leave(cid, owner, mine, how, mid, head)
  end
  answers[#answers + 1] = left or nothing_left()
end

-- The client whose will a job is: its identifier is behind the message, which is behind the head, 9 bytes of the will and the length.
local function client_of(job)
  if not job or string.byte(job, 11) ~= 1 or #job < 34 then
    return nil
  end
  local from = 33 + struct.unpack('>I4', job, 29)
  return #job > from and string.sub(job, from + 2, from + 1 + struct.unpack('>I2', job, from)) or nil
end

local function end_will(cid, mid)
  local key, others = client_key(cid), {}
  local wills, owner = unpack(redis.call('HMGET', key, 'wills', 'owner'))
  for other in string.gmatch(wills or '', '%S+') do
    if other ~= mid then
      others[#others + 1] = other
    end
  end
  if #others > 0 then
    redis.call('HSET', key, 'wills', table.concat(others, ' '))
  elseif wills then
    redis.call('HDEL', key, 'wills')
    settle(cid)
    if owner then
      tell(node_of(owner), 'g' .. cid)
    end
  end
end

changes['finish'] = function()
  local mid = take()
  local cid = client_of(redis.call('HGET', home .. 'jobs', mid))
  if cid then
    end_will(cid, mid)
  end
  redis.call('HDEL', home .. 'jobs', mid)
  redis.call('HDEL', home .. 'chosen', mid)
end

-- The member of a Shared Subscription that gets the message of a job, in place of the one that was to get it.
changes['choose'] = function()
  local mid, share, uid = take(), take(), take()
  if redis.call('HEXISTS', home .. 'jobs', mid) == 0 then
    return
  end
  local chosen = {}
  for member, other in string.gmatch(redis.call('HGET', home .. 'chosen', mid) or '', '(%d+) ([^%z]*)%z') do
    if other ~= share then
      chosen[#chosen + 1] = member .. ' ' .. other .. '\0'
    end
  end
  chosen[#chosen + 1] = uid .. ' ' .. share .. '\0'
  redis.call('HSET', home .. 'chosen', mid, table.concat(chosen))
end

-- It may have left something, until that is looked for and forgotten.
changes['fence'] = function()
  local node = take()
  if redis.call('HEXISTS', hw, node) == 1 then
    redis.call('SADD', home .. 'fenced', node)
  end
  fence(node)
end

-- What is due of one client: its will becomes a job; the session, if that has ended.
local function sweep(cid, moment, mid, node, head, left)
  local key = client_key(cid)
  local fields = redis.call('HMGET', key, 'uid', 'will', 'ends_at')
  local uid, will, ends_at = fields[1], fields[2], fields[3]
  local ends = ends_at and tonumber(ends_at) <= moment
  redis.call('HDEL', key, 'will_at', 'will', 'left')
  if ends then
    redis.call('HDEL', key, 'ends_at', 'uid')
  end
  if will then
    add_will(key, mid, head, will, left)
  end
  settle(cid)
  if ends and uid then
    end_session(uid, mid, node, left)
  end
end

changes['sweep'] = function()
  local node, first, most, head = take(), tonumber(take()), take(), take()
  local moment, left = now(), nothing_left()
  for place, cid in ipairs(redis.call('ZRANGEBYSCORE', home .. 't', '-inf', whole(moment), 'LIMIT', 0, most)) do
    sweep(cid, moment, node .. '.' .. whole(first + place - 1), node, head, left)
  end
  answers[#answers + 1] = left
end

-- A session ends that its owner does not want any more.
changes['e'] = function()
  local uid, mid = take(), take()
  local left = nothing_left()
  if own_session(uid) then
    local cid = redis.call('HGET', home .. 's:' .. uid, 'cid')
    if redis.call('HGET', client_key(cid), 'uid') == uid then
      redis.call('HDEL', client_key(cid), 'uid')
    end
    end_session(uid, mid, mine, left)
  end
  answers[#answers + 1] = left
end
