-- format.lua precedes the scripts that check the format of the keys P:sidecar:*, and
-- has the rules of it (docs/upgrading.md says what follows for users).
--
-- KEYS     those of the script that follows
-- ARGV     those of the prelude
-- Returns  nothing; the script that follows returns the reply
--
-- The key P:sidecar:format has the format in which the sidecars of the prefix write; a
-- missing key means 1, the format of the versions that did not know the key. A sidecar
-- reads every format up to the newest one that it knows, and writes no newer one than
-- the key has. The format rises when all members know the next one (tick.lua), and never
-- falls: a member therefore never meets a format that it does not know, unless the
-- key was changed by hand or another database was loaded.
local FORMAT = S .. 'format'

-- stored_format returns the format; 0 without a key, nil for a value that is no format.
local function stored_format()
  local value = redis.pcall('GET', FORMAT)
  if not value then
    return 0
  end
  if type(value) == 'table' then
    if not string.find(value.err, 'WRONGTYPE', 1, true) then
      redis.call('GET', FORMAT) -- ends the script
    end
    return nil
  end
  return string.match(value, '^[1-9]%d?%d?%d?$') and tonumber(value) or nil
end

-- unknown_format returns the error for a caller that knows the formats up to known only,
-- and nil for one that knows the stored format.
local function unknown_format(known)
  local stored = stored_format()
  if not stored or stored > tonumber(known) then
    return redis.error_reply('FORMAT ' .. (stored or 'unreadable'))
  end
end

-- raise_format sets the format to the newest one that all members know, if that is newer
-- than the stored one. It also writes a missing key, and replaces a value that is no
-- format. It returns the format if that has changed, and 0 otherwise.
local function raise_format(stored, known)
  local newest = tonumber(known)
  if stored and stored >= newest then
    return 0
  end
  in_parts(redis.call('SMEMBERS', RUNS), function(...)
    for _, run in ipairs({ ... }) do
      local of_run = redis.pcall('HGET', S .. 'meta:' .. run, 'format')
      of_run = type(of_run) == 'string' and tonumber(of_run) or 1
      newest = math.max(math.min(newest, of_run), 1)
    end
  end)
  if stored and stored >= newest then
    return 0
  end
  redis.call('SET', FORMAT, newest)
  return stored == 0 and newest == 1 and 0 or newest
end

