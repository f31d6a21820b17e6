-- Places are compared as text: a number of Lua does not hold all of them.
local function below(a, b)
  return #a < #b or (#a == #b and a < b)
end

-- What the message counts for: 4 bytes at the start of its terms.
local function size(terms)
  local a, b, c, d = string.byte(terms, 1, 4)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- Which entry is the first whose place is not below this one, whether that is its place, and how many there are.
local function find(key, place)
  local count = redis.call('LLEN', key) / 3
  if count == 0 then
    return 0, false, 0
  end
  local guess = tonumber(place) - tonumber(redis.call('LINDEX', key, 0))
  if guess >= 0 and guess < count and redis.call('LINDEX', key, guess * 3) == place then
    return guess, true, count
  end
  local low, high = 0, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    if below(redis.call('LINDEX', key, middle * 3), place) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low, low < count and redis.call('LINDEX', key, low * 3) == place, count
end
