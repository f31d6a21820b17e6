-- Says that a node lives, how far it has applied the log, of which what all have applied goes, and where it has found all that it has written.
-- KEYS: nodes. ARGV: the incarnation, the position, servers. Answers whether it is a node, with the time, and which generation is over.
local home = string.sub(KEYS[1], 1, -6)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local generation = tonumber(redis.call('HGET', home .. 'meta', 'gen') or 0)
local state = redis.call('HGET', KEYS[1], ARGV[1])
if not state then
  return { 0, now, generation }
end
local counter, applied = string.match(state, '^(%d+):(%d+)')
-- A beat that was held back must not undo a later one.
applied = math.max(tonumber(applied), tonumber(ARGV[2]))
local servers = ARGV[3] ~= '' and ':' .. ARGV[3] or ''
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:%.0f', tonumber(counter) + 1, applied) .. servers)
local least = applied
for _, other in ipairs(redis.call('HVALS', KEYS[1])) do
  least = math.min(least, tonumber(string.match(other, '^%d+:(%d+)')))
end
redis.call('XTRIM', home .. 'log', 'MINID', '~', string.format('1-%.0f', least + 1))
return { 1, now, generation }
