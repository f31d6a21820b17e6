-- A client, and what goes with it, at one moment. KEYS: the client. ARGV: its identifier, nodes that own clients of this home.
local home = string.match(KEYS[1], '^.-}:')
local cid = ARGV[1]
local owner, uid = unpack(redis.call('HMGET', KEYS[1], 'owner', 'uid'))
local nodes = {}
for i = 2, #ARGV do
  nodes[ARGV[i]] = true
end
local node = owner and string.match(owner, '^%d+')
if node then
  nodes[node] = true
end
local owners = {}
for other in pairs(nodes) do
  if redis.call('SISMEMBER', home .. 'own:' .. other, cid) == 1 then
    owners[#owners + 1] = other
  end
end
local session = {}
if uid then
  session = redis.call('HMGET', home .. 's:' .. uid, 'cid', 'owner', 'expiry')
end
local lost = {}
for mid in string.gmatch(redis.call('HGET', KEYS[1], 'wills') or '', '%S+') do
  if redis.call('HEXISTS', home .. 'jobs', mid) == 0 then
    lost[#lost + 1] = mid
  end
end
return { redis.call('HGETALL', KEYS[1]), redis.call('ZSCORE', home .. 't', cid), owners, session, lost }
