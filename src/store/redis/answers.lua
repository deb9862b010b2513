-- Stored answers and what is known of purges. One operation a call; the keys of one call share a slot.
--
-- A key of ours may hold anything: what is not a text of ours is as good as nothing there.

local operation = ARGV[1]

local function text(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' then return value end
  return nil
end

-- The guard of a URL is 24 bytes: who it is, and the last soft purge. It lives as long as what it guards.
local function guard(key)
  local value = text(key)
  if value and #value == 24 then return value end
  return nil
end

-- KEYS: guard, lease. ARGV: a guard to put there, its milliseconds, a token or nothing, its milliseconds.
if operation == 'begin' then
  local standing = guard(KEYS[1])
  if not standing then
    standing = ARGV[2]
    redis.call('SET', KEYS[1], standing, 'PX', ARGV[3])
  elseif redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
  local turn = 1
  if ARGV[4] ~= '' and not redis.call('SET', KEYS[2], ARGV[4], 'NX', 'PX', ARGV[5]) then
    local holder = text(KEYS[2])
    if holder == 'pass' then
      turn = 2
    elseif holder ~= ARGV[4] then -- Ours it is already where the call was sent a second time.
      turn = 0
    end
  end
  return { standing, turn }
end

-- KEYS: guard, lease, value, perhaps the rule that leads to the value. ARGV: who the guard was when the
-- fetch began, milliseconds, value, token or nothing, rule.
if operation == 'keep' then
  local standing = guard(KEYS[1])
  local kept = 0
  if standing and string.sub(standing, 1, 8) == ARGV[2] then
    local span = tonumber(ARGV[3])
    redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[3])
    if KEYS[4] then
      local left = span
      if text(KEYS[4]) == ARGV[6] then left = math.max(left, redis.call('PTTL', KEYS[4])) end
      redis.call('SET', KEYS[4], ARGV[6], 'PX', left)
    end
    if redis.call('PTTL', KEYS[1]) < span then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
    kept = 1
  end
  if ARGV[5] ~= '' and text(KEYS[2]) == ARGV[5] then redis.call('DEL', KEYS[2]) end
  return kept
end

-- KEYS: lease. ARGV: token, milliseconds for which others need not wait, or 0.
if operation == 'release' then
  if text(KEYS[1]) ~= ARGV[2] then return 0 end
  if ARGV[3] == '0' then return redis.call('DEL', KEYS[1]) end
  redis.call('SET', KEYS[1], 'pass', 'PX', ARGV[3])
  return 1
end

-- KEYS: guard. ARGV: 16 bytes about a soft purge.
if operation == 'soften' then
  local standing = guard(KEYS[1])
  if not standing then return 0 end
  redis.call('SET', KEYS[1], string.sub(standing, 1, 8) .. ARGV[2], 'KEEPTTL')
  return 1
end

-- The log of purges. KEYS: its head (its name, a colon, the number of the last purge), its entries.
-- ARGV: a name for a new log.
local function start()
  redis.call('DEL', KEYS[2])
  redis.call('SET', KEYS[1], ARGV[2] .. ':0')
  return ARGV[2], 0
end

local function head()
  local name, last = string.match(text(KEYS[1]) or '', '^(%x+):(%d+)$')
  local kind = redis.call('TYPE', KEYS[2]).ok
  if not name or #name ~= 16 or #last > 15 or (kind ~= 'list' and kind ~= 'none') then
    return start()
  end
  return name, tonumber(last)
end

-- ARGV: how many entries stay, the entry.
if operation == 'append' then
  local name, last = head()
  last = last + 1
  redis.call('RPUSH', KEYS[2], ARGV[4])
  redis.call('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)
  redis.call('SET', KEYS[1], string.format('%s:%.0f', name, last))
  return { name, last }
end

-- ARGV: the log that is known, and up to which number. All entries, where that does not fit.
if operation == 'since' then
  local name, last = head()
  local from = 0
  if name == ARGV[3] then
    -- Redis has lost what it had said: what others know under this name is not to be trusted.
    if tonumber(ARGV[4]) > last then name, last = start() end
    local missing = last - tonumber(ARGV[4])
    if missing >= 0 and missing <= redis.call('LLEN', KEYS[2]) then from = -missing end
    if missing == 0 then return { name, last, {} } end
  end
  return { name, last, redis.call('LRANGE', KEYS[2], from, -1) }
end

return redis.error_reply('ERR no such operation')
