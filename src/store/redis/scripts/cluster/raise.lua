-- Redis has lost writes of an incarnation. KEYS: meta. ARGV: the incarnation, the homes that have lost some.
-- Answers with the generation.
local homes = {}
for i = 2, #ARGV do
  homes[#homes + 1] = ARGV[i]
end
return raise(string.sub(KEYS[1], 1, -5), tonumber(ARGV[1]), homes)
