-- What is at these places of a queue, at one moment. KEYS: the session. ARGV: its name, the places.
-- Answers nothing if it is not there; else its last place, and for each place its terms and the checksum of its message.
local fields = redis.call('HMGET', KEYS[1], 'expiry', 'last')
if not fields[1] then
  return false
end
local queue = string.match(KEYS[1], '^.-}:') .. 'q:' .. ARGV[1]
local found = {}
for i = 2, #ARGV do
  local entry, is_there = find(queue, ARGV[i])
  found[#found + 1] = is_there
    and { redis.call('LINDEX', queue, entry * 3 + 1), string.sub(redis.call('LINDEX', queue, entry * 3 + 2), -4) }
end
return { fields[2] or '', found }
