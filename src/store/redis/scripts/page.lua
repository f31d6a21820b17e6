-- Reads a page of a queue. KEYS: the queue. ARGV: the first place, the most messages, the most bytes.
local start, _, count = find(KEYS[1], ARGV[1])
local most, room, taken = tonumber(ARGV[2]), tonumber(ARGV[3]), 0
while start + taken < count and taken < most and room > 0 do
  room = room - size(redis.call('LINDEX', KEYS[1], (start + taken) * 3 + 1))
  taken = taken + 1
end
if taken == 0 then
  return {}
end
return redis.call('LRANGE', KEYS[1], start * 3, (start + taken) * 3 - 1)
