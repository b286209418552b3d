-- tick.lua does the chores of one second.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  description of the run, JSON, or ''
-- ARGV[6]  host:run, as in renew.lua
-- ARGV[7]  maximum number of records that each chore moves
-- ARGV[8]  maximum number of bytes that each chore moves
-- ARGV[9]  retention of a run on the gone list, ms
-- ARGV[10] retention of attempts, ms
-- ARGV[11] maximum number of ids that each chore examines
-- ARGV[12] minimum interval of two checks of the members, ms
-- ARGV[13] maximum interval; after a longer one absence counts from zero, ms
-- ARGV[14] absence after which a member is dead, ms
-- ARGV[15] additional grace after a longer interval, ms
-- ARGV[16] maximum number of commands
-- ARGV[17] Redis' clock at the caller's last tick, ms, or ''
-- ARGV[18] time since that by the caller's own clock, ms
-- ARGV[19] maximum number of keys that are searched for forgotten runs
-- ARGV[20] number of checks between two such searches
-- ARGV[21] newest format that the caller knows, see format.lua
-- ARGV[22] maximum number of dead letters, or 0
-- ARGV[23] maximum age of dead letters, ms, or 0
-- Returns  records promoted; records drained; runs that the caller has to reap;
--          unfinished runs; records in flight of the caller; 1 if the run is paused;
--          1 if all runs are; commands for the run; unrouted records; Redis' clock;
--          isolated records; the format if it has changed, or 0; 1 if it has replaced
--          a value that is no format; 1 if the caller has to delete dead letters
--          (trim_dead.lua). Error GONE for a run that is not a member, and FORMAT for a
--          caller that does not know the stored format
--
-- Every sidecar ticks, and the checks serve all of them: if each sidecar checked each,
-- the work would grow with the square of the fleet. The members are therefore checked
-- only if the last check is ARGV[12] old. The times since when members are absent are
-- stored in Redis and not in the sidecar that checked: in a fleet whose members come
-- and go every second no member lives to count to three (deaths in sequence took 18 s
-- to be found). The caller that checks is alive and receives the dead runs; if it dies
-- or its reply is lost, the next caller receives them too.
--
-- An outage that lets all leases expire is no death: the checks stop with it, and
-- absence counts from zero afterwards. The other chores are bounded and continue with
-- the next check; each check processes another part of a long gone list.
--
-- A step of the clock restarts the absence counts as well. It also prolongs the leases
-- granted before the step; those are cut to the length of a lease. A step ahead is
-- detected with the clock of a caller that ticked a moment ago.
--
-- After a FLUSHALL or the deletion of a key, inboxes and in-flight hashes remain of runs
-- that Redis has forgotten and that died before they registered again. Each check
-- searches a part of the key space for them; after a complete search there is a pause.
--
-- Commands are removed when they are read. A lost reply loses them; the user sees that
-- nothing happens and repeats the command. A drain or a restart that is done twice is
-- worse than one that is requested twice.
if not member(RUN) then
  return gone()
end
local stored = stored_format()
if stored and stored > tonumber(ARGV[21]) then
  return redis.error_reply('FORMAT ' .. stored)
end
check_types()
redis.call('ZCARD', GONE)
redis.call('ZCARD', DELAYED)
redis.call('HLEN', DELAYED_RECORDS)
redis.call('ZCARD', ISOLATED)
local PAUSED, COMMANDS, WATCH = S .. 'paused', S .. 'orders:' .. RUN, S .. 'watch'
redis.call('HLEN', PAUSED)
redis.call('LLEN', COMMANDS)
redis.call('LLEN', S .. 'unrouted')
redis.call('HLEN', WATCH)
local NOW, RAW = now()
local most, max_bytes, max_ids = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[11])
renew(ARGV[5], ARGV[6])

-- check_members returns the dead members. The caller is not among them.
local function check_members(page, age, cursor, rest)
  local since, grace, restarted = {}, 0, false
  if age >= 0 and age <= tonumber(ARGV[13]) then
    local last = redis.call('HGETALL', WATCH)
    for i = 1, #last, 2 do
      since[last[i]] = tonumber(last[i + 1])
    end
  else
    grace, restarted = tonumber(ARGV[15]), true
  end
  local dead, fields = {}, { 'at', RAW, 'page', page, 'cursor', cursor, 'rest', rest }
  in_parts(redis.call('SMEMBERS', RUNS), function(...)
    local part = { ... }
    local keys = {}
    for i, run in ipairs(part) do
      keys[i] = S .. 'alive:' .. run
      local left = restarted and redis.call('PTTL', keys[i])
      if left and (left == -1 or left > tonumber(ARGV[3])) then
        redis.call('PEXPIRE', keys[i], ARGV[3])
      end
    end
    if redis.call('EXISTS', unpack(keys)) == #keys then
      return
    end
    for i, run in ipairs(part) do
      if redis.call('EXISTS', keys[i]) == 0 then
        local from = since[run] or RAW + grace
        fields[#fields + 1], fields[#fields + 2] = run, from
        if RAW - from >= tonumber(ARGV[14]) then
          dead[#dead + 1] = run
        end
      end
    end
  end)
  redis.call('DEL', WATCH)
  in_parts(fields, function(...)
    redis.call('HSET', WATCH, ...)
  end)
  redis.call('PEXPIRE', WATCH, 10000)
  return dead
end

-- sweep processes a part of the gone list. A BLMOVE of a client that has left can still
-- run: sweep requeues the records that it moved into the inbox of a gone run. It also
-- finds the runs whose reaper died before it was done.
local drained, unfinished = 0, {}
local function sweep(page)
  local bytes = 0
  local pages = math.max(math.ceil(redis.call('ZCARD', GONE) / max_ids), 1)
  local start = page % pages * max_ids
  for _, run in ipairs(redis.call('ZRANGE', GONE, start, start + max_ids - 1)) do
    local inbox, inflight = S .. 'inbox:' .. run, S .. 'inflight:' .. run
    local has_inbox, has_inflight = usable('LLEN', inbox), usable('HLEN', inflight)
    while has_inbox and drained < most and bytes < max_bytes do
      local record = redis.call('RPOP', inbox)
      if not record then
        break
      end
      redis.call(PUSH, QUEUE, record)
      drained, bytes = drained + 1, bytes + #record
    end
    if has_inflight and redis.call('HLEN', inflight) > 0 then
      unfinished[#unfinished + 1] = run
    elseif redis.call('EXISTS', inbox) == 0 then
      redis.call('DEL', S .. 'meta:' .. run)
    end
  end
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', GONE, '-inf', NOW - ARGV[9], 'LIMIT', 0, max_ids)) do
    if redis.call('EXISTS', S .. 'inbox:' .. run, S .. 'inflight:' .. run) == 0 then
      redis.call('ZREM', GONE, run)
    end
  end
  for _, sha in ipairs(redis.call('ZRANGEBYSCORE', ATTEMPTS_AT, '-inf', NOW - ARGV[10], 'LIMIT', 0, max_ids)) do
    forget_attempts(sha)
  end
end

-- search examines a part of the key space for keys of forgotten runs and returns the
-- cursor of the next part. It does nothing on a server that refuses SCAN.
local function search(cursor)
  local pattern = string.gsub(S, '[%*%?%[%]\\]', '\\%0') .. 'in*'
  local reply = redis.pcall('SCAN', cursor, 'MATCH', pattern, 'COUNT', ARGV[19])
  if reply.err then
    return '0'
  end
  for _, key in ipairs(reply[2]) do
    for _, head in ipairs({ S .. 'inbox:', S .. 'inflight:' }) do
      local run = string.sub(key, 1, #head) == head and string.sub(key, #head + 1)
      if run and not member(run) then
        end_run(run, 'clean', 0)
      end
    end
  end
  return reply[1]
end

-- store_clock stores Redis' clock. A clock that is ahead of the caller's measurement,
-- with no other caller in between, has been set forward.
local function store_clock()
  local at, ahead = stored_clock(RAW)
  local step = ARGV[17] ~= '' and RAW - tonumber(ARGV[17]) - tonumber(ARGV[18]) or 0
  if RAW - at > tonumber(ARGV[13]) and step > 60000 then
    ahead = ahead - math.min(step, RAW - at)
  end
  redis.call('HSET', CLOCK, 'at', RAW, 'ahead', ahead)
  NOW = RAW + ahead
end

-- too_many_letters reports whether there are dead letters above the number, or of the age,
-- up to which they are kept.
local function too_many_letters()
  if not usable('ZCARD', DEAD) then
    return false
  end
  local most_letters, oldest = tonumber(ARGV[22]), tonumber(ARGV[23])
  return most_letters > 0 and redis.call('ZCARD', DEAD) > most_letters
      or oldest > 0 and #redis.call('ZRANGEBYSCORE', DEAD, '-inf', RAW - oldest, 'LIMIT', 0, 1) > 0
end

local last = redis.call('HMGET', WATCH, 'at', 'page', 'cursor', 'rest')
local age = RAW - (tonumber(last[1]) or 0)
local dead, raised, letters = {}, 0, 0
if age >= tonumber(ARGV[12]) or age < 0 then
  store_clock()
  local page = (tonumber(last[2]) or 0) + 1
  local cursor, rest = last[3] or '0', (tonumber(last[4]) or 0) - 1
  if rest < 0 then
    cursor = search(cursor)
    rest = cursor == '0' and tonumber(ARGV[20]) or 0
  end
  dead = check_members(page, age, cursor, rest)
  sweep(page)
  raised = raise_format(stored, ARGV[21])
  letters = too_many_letters() and 1 or 0
end

-- Due records are promoted: the earliest ones within the limits, pushed last first, so
-- that the earliest one is claimed first.
local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, most)
local records, promoted, bytes = {}, 0, 0
for i, delivery in ipairs(due) do
  if bytes >= max_bytes then
    break
  end
  local record = redis.call('HGET', DELAYED_RECORDS, delivery)
  records[i] = record
  bytes = bytes + (record and #record or 0)
end
for i = #records, 1, -1 do
  if records[i] then
    redis.call(PUSH, QUEUE, records[i])
    promoted = promoted + 1
  end
  redis.call('ZREM', DELAYED, due[i])
  redis.call('ZREM', ISOLATED, due[i])
  redis.call('HDEL', DELAYED_RECORDS, due[i])
end

local commands = redis.call('LPOP', COMMANDS, ARGV[16]) or {}
return { promoted, drained, dead, unfinished, redis.call('HLEN', INFLIGHT),
         redis.call('HEXISTS', PAUSED, RUN), redis.call('HEXISTS', PAUSED, '*'), commands, redis.call('LLEN', S .. 'unrouted'),
         RAW, redis.call('ZCARD', ISOLATED), raised, raised > 0 and not stored and 1 or 0, letters }
