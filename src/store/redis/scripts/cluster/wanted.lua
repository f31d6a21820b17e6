-- Of the clients that an incarnation owns, those for which somebody waits. KEYS: the set of them.
local home = string.match(KEYS[1], '^(.*})') .. ':c:'
local wanted = {}
for _, client in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('HEXISTS', home .. client, 'next') == 1 then
    wanted[#wanted + 1] = client
  end
end
return wanted
