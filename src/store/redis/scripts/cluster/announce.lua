-- Says what others may know of a node, if it is one. KEYS: nodes, about, meta. ARGV: the incarnation, what it says.
-- Answers with the position of the log.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
return redis.call('HGET', KEYS[3], 'pos')
