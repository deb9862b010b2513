-- Says of places in flight that they are held on, also where this server has lost them meanwhile.
--
-- KEYS     the limit's key, for each place
-- ARGV[1]  for how many microseconds each counts from now on
-- ARGV[2]  the name of the first, and so on
--
-- Answers how many.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local lapses = now + tonumber(ARGV[1])
local lives = math.ceil(tonumber(ARGV[1]) / 1000) + 1000
local told = 0
for index, key in ipairs(KEYS) do
  -- What another program has put under a key keeps no other place from being told of.
  local done = redis.pcall('ZADD', key, string.format('%.0f', lapses), ARGV[index + 1])
  if type(done) == 'number' then
    redis.call('PEXPIRE', key, lives)
    told = told + 1
  elseif not done.err:find('WRONGTYPE', 1, true) then
    return done
  end
end
return told
