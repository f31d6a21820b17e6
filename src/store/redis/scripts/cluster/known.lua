-- What has become of messages that groups were to put into queues of a bucket. KEYS: hw. ARGV: for each its identity or nothing, the
-- session, and the Shared Subscription. Answers for each 1 if it is there, or was.
local home = string.sub(KEYS[1], 1, -3)
local known = {}
for i = 1, #ARGV, 3 do
  local mid, uid, share = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if mid ~= '' then
    local queues = redis.call('HGET', home .. 'm2', mid) or ''
    local queue = ' ' .. uid .. 's' .. redis.sha1hex(share) .. ' '
    known[#known + 1] = string.find(queues .. ' ', queue, 1, true) and 1 or 0
  else
    -- A session does not come back: if it is there, it was.
    known[#known + 1] = redis.call('EXISTS', home .. 's:' .. uid)
  end
end
return known
