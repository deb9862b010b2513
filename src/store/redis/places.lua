-- Says of places in flight that they are held on, also where this server has lost them meanwhile, or that
-- they are not.
--
-- KEYS     the limit's key, for each place; equal ones stand beside each other
-- ARGV[1]  for how many microseconds each counts from now on; 0 gives them back
-- ARGV[2]  the name of the first, and so on
--
-- Answers how many it has heard of.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local lasts = tonumber(ARGV[1])
local lapses = string.format('%.0f', now + lasts)
local heard = 0
for index, key in ipairs(KEYS) do
  local name, done = ARGV[index + 1], nil
  if lasts > 0 then
    done = redis.pcall('ZADD', key, lapses, name)
  else
    done = redis.pcall('ZREM', key, name)
  end
  if type(done) == 'number' then
    heard = heard + 1
    if lasts > 0 and key ~= KEYS[index + 1] then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
      redis.call('PEXPIRE', key, math.ceil(lasts / 1000) + 1000)
    end
  elseif not done.err:find('WRONGTYPE', 1, true) then
    -- What another program has put under a key keeps no other place from being told of. All else (a full
    -- server, a replica) strikes every place.
    return done
  end
end
return heard
