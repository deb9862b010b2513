-- All limits of one question at once: take from each, or from none. Several questions are as many calls,
-- one behind the other.
--
-- KEYS     one for each limit
-- ARGV[1]  packed, the most significant byte of numbers first, of 4 bytes unless told:
--          t to take, l to look (what taking would say), g to give back or c to charge; then for each
--          question in 2 bytes how many limits; for each of those 8 bytes that no other has (of what is in
--          flight the name of its place), or, to give back, how many microseconds ago it was taken; its
--          algorithm (t, f, s, e, h), a byte that is 1 if it can refuse, a byte with how many windows, the
--          cost, how many to take if there are so many, the largest quota under which the key is counted,
--          and each window as quota, bucket, and microseconds in 8 bytes
--
-- Answers one text (a list is dear to read) of 18 bytes for each limit: a byte that is 1 if it fits, a
-- byte with the window that says so, what is left there, how many were taken, and in 8 bytes
-- microseconds until there is more. Of several questions one whose key is of another kind has bytes of 2
-- alone: asked by itself it comes to an error.
--
-- Times are microseconds of this server's clock: they fit a double until the year 2255. When it goes
-- back, what was counted stays as it is until it has caught up; what is more than a window ahead then
-- counts as of now, or a clock that is set right would shut callers out for as long as it was wrong. So
-- a whole quota is back after two windows at most, after three where they are weighted. The debt of a
-- bucket is kept in tokens, so that a changed quota keeps what was used. Fractions of a token are right
-- to a millionth.
--
-- A key is always asked about windows of the same times: it expires, and a log is cut, as these allow.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local packed = ARGV[1]
local op = packed:sub(1, 1)
local EPSILON = 0.000001
-- What a counter holds, and how long a debt lasts: 146 years. More has no use, and fits no answer.
local MOST, LONGEST = 4294967295, 4611686018427387

local function whole(number) return string.format('%.0f', number) end
local function exactly(number) return string.format('%.17g', number) end
local function within(number, most) return math.max(0, math.min(number, most)) end
-- Nothing, where another program has written what no counter holds.
local function stored(key, window, name)
  local number = tonumber(redis.call('HGET', key, whole(window.per) .. name) or '0') or 0
  return number >= 0 and number < math.huge and number or 0
end
-- When it was counted: at another moment, where the clock has been set back by more than a window since.
-- That is written down, also where nothing is taken: what is owed melts from there.
local function counted(key, window, name, moment)
  local at = stored(key, window, name)
  if at <= moment + window.per then return at end
  redis.call('HSET', key, whole(window.per) .. name, whole(moment))
  return moment
end

local algorithms = {}

-- What a bucket can owe.
local function most_owed(window) return LONGEST * window.quota / window.per end

-- A bucket: what is owed melts at the quota's rate.
algorithms.t = {
  load = function(key, window)
    local at = counted(key, window, 'a', now)
    local passed = math.max(0, now - at)
    local debt = stored(key, window, 'd') - passed * window.quota / window.per
    window.at = math.max(at, now)
    window.size, window.used = window.bucket, within(debt, most_owed(window))
  end,
  wait = function(_, window, cost)
    local each, behind = window.per / window.quota, window.at - now
    if cost > window.bucket then return behind + math.max(window.used, 1) * each end
    return behind + (window.used + cost - window.bucket) * each
  end,
  take = function(window, cost)
    window.used = within(window.used + cost, most_owed(window))
  end,
  give = function(window, cost)
    window.used = math.max(0, window.used - cost)
  end,
  save = function(key, window)
    local per = whole(window.per)
    redis.call('HSET', key, per .. 'a', whole(window.at), per .. 'd', exactly(window.used))
    return window.at - now + window.used * window.per / window.quota
  end,
}

-- So many from one tick to the next. A clock that goes back stays in the window it was in.
algorithms.f = {
  load = function(key, window)
    local start = now - now % window.per
    local known = counted(key, window, 's', start)
    window.start, window.size, window.used = start, window.quota, 0
    if known >= start then
      window.start, window.used = known, stored(key, window, 'c')
    end
  end,
  wait = function(_, window) return window.start + window.per - now end,
  take = function(window, cost)
    window.used = within(window.used + cost, MOST)
  end,
  -- What was taken in another window does not count in this one.
  give = function(window, cost, taken)
    if taken >= window.start then window.used = math.max(0, window.used - cost) end
  end,
  save = function(key, window)
    local per = whole(window.per)
    redis.call('HSET', key, per .. 's', whole(window.start), per .. 'c', whole(window.used))
    return window.start + window.per - now
  end,
}

-- Two windows, the earlier one weighted by how much of it is still in sight.
local function weigh(window)
  local share = window.earlier * math.min(window.per, window.left) / window.per
  window.used = window.current + share
end

algorithms.s = {
  load = function(key, window)
    local per = window.per
    local start = now - now % per
    local known = counted(key, window, 's', start)
    local current, earlier = stored(key, window, 'c'), stored(key, window, 'p')
    if known >= start then
      start = known
    elseif known == start - per then
      current, earlier = 0, current
    else
      current, earlier = 0, 0
    end
    window.start, window.current, window.earlier = start, current, earlier
    window.left, window.size = start + per - now, window.quota
    weigh(window)
  end,
  wait = function(_, window, cost)
    local per, quota = window.per, window.quota
    local current = window.current
    if cost > quota then return window.left + per end
    if current + cost <= quota then
      if window.earlier <= 0 then return 0 end
      return window.left - (quota - current - cost) * per / window.earlier
    end
    return window.left + per - (quota - cost) * per / current
  end,
  take = function(window, cost)
    window.current = within(window.current + cost, MOST)
    weigh(window)
  end,
  give = function(window, cost, taken)
    if taken >= window.start then
      window.current = math.max(0, window.current - cost)
    elseif taken >= window.start - window.per then
      window.earlier = math.max(0, window.earlier - cost)
    end
    weigh(window)
  end,
  save = function(key, window)
    local per = whole(window.per)
    redis.call('HSET', key, per .. 's', whole(window.start), per .. 'c', whole(window.current),
      per .. 'p', whole(window.earlier))
    return window.left + window.per
  end,
}

-- Every request by itself, in one log for all windows.
algorithms.e = {
  load = function(key, window)
    -- As `counted` does for the others.
    local ahead = redis.call('ZRANGEBYSCORE', key, '(' .. whole(now + window.per), '+inf')
    for _, member in ipairs(ahead) do
      redis.call('ZADD', key, whole(now), member)
    end
    window.after = '(' .. whole(now - window.per)
    window.size = window.quota
    window.used = redis.call('ZCOUNT', key, window.after, '+inf')
  end,
  wait = function(key, window, cost)
    local index = window.used + cost - window.quota - 1
    if cost > window.quota or index < 0 then return window.per end
    local oldest = redis.call('ZRANGEBYSCORE', key, window.after, '+inf', 'WITHSCORES', 'LIMIT', index, 1)
    return oldest[2] and tonumber(oldest[2]) + window.per - now or window.per
  end,
  take = function(window, cost) window.used = window.used + cost end,
  give = function(window, cost) window.used = math.max(0, window.used - cost) end,
}

-- What is in flight, each until it lapses; who is there still says so before that (places.lua). What a clock
-- that is set back leaves far ahead lapses as if it had been told of now.
algorithms.h = {
  load = function(key, window, limit)
    local latest = whole(now + window.per)
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. latest, '+inf')) do
      redis.call('ZADD', key, latest, member)
    end
    window.size, window.used = window.quota, redis.call('ZCOUNT', key, '(' .. whole(now), '+inf')
    -- It was taken by a call that is made again: its answer was lost.
    limit.own = window.used > 0 and redis.call('ZSCORE', key, limit.nonce)
    if limit.own and tonumber(limit.own) > now then window.used = window.used - 1 end
  end,
  wait = function() return 0 end,
  take = function(window, cost) window.used = window.used + cost end,
  save = function(key, window, limit)
    redis.call('ZADD', key, whole(now + window.per), limit.nonce)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
    return window.per
  end,
}

-- The log has twice the largest quota at most, also when a caller of a small one asks: the newest alone
-- decide when there is more.
local function log_taken(limit, count, most)
  for index = 1, math.min(count, 2 * most) do
    redis.call('ZADD', limit.key, whole(now), limit.nonce .. ':' .. index)
  end
  redis.call('ZREMRANGEBYRANK', limit.key, 0, -2 * most - 1)
end

-- The oldest that can be meant go: then nobody comes earlier for it.
local function log_given(limit, count, taken)
  local meant = redis.call('ZRANGEBYSCORE', limit.key, whole(taken), '+inf', 'LIMIT', 0, count)
  for _, member in ipairs(meant) do
    redis.call('ZREM', limit.key, member)
  end
end

local function save_log(limit, count, taken)
  local longest, most = 0, limit.largest
  for _, window in ipairs(limit) do
    longest, most = math.max(longest, window.per), math.max(most, window.quota)
  end
  -- First: a full server refuses it, and would not behind a command that frees something.
  if taken == nil then log_taken(limit, count, most) end
  redis.call('ZREMRANGEBYSCORE', limit.key, '-inf', whole(now - longest))
  if taken and taken > now - longest then log_given(limit, count, taken) end
  return longest
end

-- Changes every window by a count, and lets the key go when it owes nothing any more. What is given
-- back was taken at an earlier moment.
local function change(limit, count, taken)
  local algorithm, lives = algorithms[limit.algorithm], 0
  for _, window in ipairs(limit) do
    if taken then algorithm.give(window, count, taken) else algorithm.take(window, count) end
    if algorithm.save then lives = math.max(lives, algorithm.save(limit.key, window, limit)) end
  end
  if not algorithm.save then lives = save_log(limit, count, taken) end
  redis.call('PEXPIRE', limit.key, whole(math.ceil(lives / 1000) + 1000))
end

local function read_limit(key, at)
  local limit, refuses, windows = { key = key }, 0, 0
  limit.nonce, limit.algorithm, refuses, windows, limit.cost, limit.want, limit.largest, at =
    struct.unpack('>c8c1BBI4I4I4', packed, at)
  limit.refuses = refuses == 1
  for number = 1, windows do
    local window = {}
    window.quota, window.bucket, window.per, at = struct.unpack('>I4I4I8', packed, at)
    limit[number] = window
  end
  return limit, at
end

local function read()
  local questions, at, keys = {}, 2, 0
  while at <= #packed do
    local question, count = {}, 0
    count, at = struct.unpack('>I2', packed, at)
    for index = 1, count do
      question[index], at = read_limit(KEYS[keys + index], at)
    end
    keys = keys + count
    questions[#questions + 1] = question
  end
  return questions
end

local function load_all(question)
  for _, limit in ipairs(question) do
    for _, window in ipairs(limit) do
      algorithms[limit.algorithm].load(limit.key, window, limit)
    end
  end
end

local function free(window)
  return math.max(0, math.floor(window.size - window.used + EPSILON))
end

-- What is given back, or charged.
local function settle(limits)
  load_all(limits)
  for _, limit in ipairs(limits) do
    if op == 'c' then
      change(limit, limit.cost)
    elseif redis.call('EXISTS', limit.key) == 1 then
      change(limit, limit.cost, now - struct.unpack('>I8', limit.nonce))
    end
  end
  return ''
end

-- Whether all fit that can refuse.
local function all_fit(limits)
  local fit = true
  for _, limit in ipairs(limits) do
    limit.wait, limit.got = -1, limit.want
    for number, window in ipairs(limit) do
      local there = free(window)
      if there < limit.cost then
        local wait = math.max(1, math.ceil(algorithms[limit.algorithm].wait(limit.key, window, limit.cost)))
        if wait > limit.wait then limit.wait, limit.window = wait, number end
      else
        limit.got = math.min(limit.got, there)
      end
    end
    limit.fits = limit.wait < 0
    fit = fit and (limit.fits or not limit.refuses)
  end
  return fit
end

local function answer(limit, passes)
  local fits, window, left, wait, got = 1, 1, 0, 0, 0
  -- What it is told not to have it does not give back.
  if op == 't' and limit.own and not (passes and limit.fits) then
    redis.call('ZREM', limit.key, limit.nonce)
  end
  if not limit.fits then
    fits, window, wait = 0, limit.window, limit.wait
  else
    if passes then
      got = limit.got
      if got > 0 then change(limit, got) end
    end
    left = -1
    for number, state in ipairs(limit) do
      local there = free(state)
      if left < 0 or there < left then
        left, window, wait = there, number, 0
        if state.used > 0 then
          wait = algorithms[limit.algorithm].wait(limit.key, state, there + 1)
        end
      end
    end
  end
  wait = within(math.ceil(wait), LONGEST)
  return struct.pack('>BBI4I4I8', fits, window - 1, left, got, wait)
end

local function decide(limits)
  load_all(limits)
  local fit = all_fit(limits)
  local answers = {}
  for index, limit in ipairs(limits) do
    answers[index] = answer(limit, fit and op == 't')
  end
  return table.concat(answers)
end

local questions = read()
local settles = op == 'g' or op == 'c'
local work = settles and settle or decide
if #questions == 1 then return work(questions[1]) end
local answers = {}
for index, question in ipairs(questions) do
  local done, said = pcall(work, question)
  if not done then
    -- What another program has put under a key keeps no other question from its answer. All else (a full
    -- server, a replica) strikes every question, at its first write: it is the call that fails.
    local text = type(said) == 'table' and said.err or tostring(said)
    if not text:find('WRONGTYPE', 1, true) then error(said, 0) end
    said = string.rep('\2', 18 * #question)
  end
  answers[index] = said
end
return table.concat(answers)
