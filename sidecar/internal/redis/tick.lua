-- tick.lua does the chores of one second.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  what the run says of itself, JSON, or ''
-- ARGV[6]  host:run, as in renew.lua
-- ARGV[7]  most records to move in each chore   ARGV[8]  most bytes likewise
-- ARGV[9]  how long a run stays on the gone list, ms
-- ARGV[10] how long attempts are kept, ms       ARGV[11] most ids to look at
-- ARGV[12] shortest time between two looks at the members, ms
-- ARGV[13] longest one, or they prove nothing   ARGV[14] absence of the dead, ms
-- ARGV[15] grace after a longer one, ms         ARGV[16] most orders to take
-- ARGV[17] Redis' clock at the caller's last tick, ms, or ''
-- ARGV[18] how long ago that is by the caller's own clock, ms
-- ARGV[19] most keys to look at for runs that Redis has forgotten
-- ARGV[20] how many looks lie between two such searches
-- Reply    records promoted, records drained, runs that the caller is to reap,
--          unfinished runs, records in flight of the caller, 1 if the run is
--          paused, 1 if all are, orders for the run, records that wait for a
--          run that takes them, Redis' clock, records that wait for an idle run;
--          error GONE for a run that is no member
--
-- Every sidecar ticks, and what one of them sees serves all: were each to look
-- at each, the work would grow with the square of the fleet. So the members are
-- looked at only if the last look is ARGV[12] old, and since when each absent one
-- is absent is kept here, not by whoever looked: in a fleet whose members come and
-- go every second nobody lives to count to three (those that died one after the
-- other took 18 s). Who looks is alive, and is the one that is told of the dead; if
-- it dies too, or its reply is lost, so is the next one.
--
-- An outage that ran all leases out is nobody's death: the looks stopped with it,
-- and absence counts anew after that. The other chores are bounded and go on with
-- the next look; from a long gone list each takes another part.
--
-- A clock that steps makes the looks begin anew, too, and makes leases that were given
-- before it last for as long as the step: those are cut to what a lease is. A step
-- ahead is known by the clock of a caller that was here a moment ago.
--
-- A FLUSHALL, or a key that was deleted, leaves inboxes and in-flight hashes of runs
-- that Redis has forgotten, where those died before they could register anew. A part of
-- the key space is searched for them with each look, and after the whole of it nothing
-- for a while.
--
-- Orders are taken: a reply that is lost loses them, and whoever gave them sees
-- that nothing happens and gives them again. A drain or a restart that is done
-- twice is worse than one that is asked for twice.
if not member(RUN) then
  return gone()
end
check_types()
redis.call('ZCARD', GONE)
redis.call('ZCARD', DELAYED)
redis.call('HLEN', DELAYED_RECORDS)
redis.call('ZCARD', ISOLATED)
local PAUSED, ORDERS, WATCH = S .. 'paused', S .. 'orders:' .. RUN, S .. 'watch'
redis.call('HLEN', PAUSED)
redis.call('LLEN', ORDERS)
redis.call('LLEN', S .. 'unrouted')
redis.call('HLEN', WATCH)
local NOW, RAW = now()
local most, room, look = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[11])
renew(ARGV[5], ARGV[6])

-- watch looks at the members and returns the dead. The caller is none of them.
local function watch(page, age, cursor, rest)
  local since, grace, anew = {}, 0, false
  if age >= 0 and age <= tonumber(ARGV[13]) then
    local last = redis.call('HGETALL', WATCH)
    for i = 1, #last, 2 do
      since[last[i]] = tonumber(last[i + 1])
    end
  else
    grace, anew = tonumber(ARGV[15]), true
  end
  local dead, fields = {}, { 'at', RAW, 'page', page, 'cursor', cursor, 'rest', rest }
  in_parts(redis.call('SMEMBERS', RUNS), function(...)
    local part = { ... }
    local keys = {}
    for i, run in ipairs(part) do
      keys[i] = S .. 'alive:' .. run
      local left = anew and redis.call('PTTL', keys[i])
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

-- sweep looks at a part of the gone list. A BLMOVE of a client that has left
-- can still run: what it put into the inbox of a run that is gone goes back.
-- Whoever reaps may die in the middle: what is left is found here.
local drained, unfinished = 0, {}
local function sweep(page)
  local bytes = 0
  local pages = math.max(math.ceil(redis.call('ZCARD', GONE) / look), 1)
  local start = page % pages * look
  for _, run in ipairs(redis.call('ZRANGE', GONE, start, start + look - 1)) do
    local inbox, inflight = S .. 'inbox:' .. run, S .. 'inflight:' .. run
    local has_inbox, has_inflight = usable('LLEN', inbox), usable('HLEN', inflight)
    while has_inbox and drained < most and bytes < room do
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
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', GONE, '-inf', NOW - ARGV[9], 'LIMIT', 0, look)) do
    if redis.call('EXISTS', S .. 'inbox:' .. run, S .. 'inflight:' .. run) == 0 then
      redis.call('ZREM', GONE, run)
    end
  end
  for _, sha in ipairs(redis.call('ZRANGEBYSCORE', ATTEMPTS_AT, '-inf', NOW - ARGV[10], 'LIMIT', 0, look)) do
    forget_attempts(sha)
  end
end

-- search looks at a part of the key space for what belongs to forgotten runs,
-- and returns where the next part begins. A server that does not allow SCAN is left
-- alone.
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

-- note writes down what the clock says. One that is ahead of what the caller has
-- measured, while no other caller was here, has been set.
local function note()
  local at, ahead = noted_clock(RAW)
  local step = ARGV[17] ~= '' and RAW - tonumber(ARGV[17]) - tonumber(ARGV[18]) or 0
  if RAW - at > tonumber(ARGV[13]) and step > 60000 then
    ahead = ahead - math.min(step, RAW - at)
  end
  redis.call('HSET', CLOCK, 'at', RAW, 'ahead', ahead)
  NOW = RAW + ahead
end

local last = redis.call('HMGET', WATCH, 'at', 'page', 'cursor', 'rest')
local age = RAW - (tonumber(last[1]) or 0)
local dead = {}
if age >= tonumber(ARGV[12]) or age < 0 then
  note()
  local page = (tonumber(last[2]) or 0) + 1
  local cursor, rest = last[3] or '0', (tonumber(last[4]) or 0) - 1
  if rest < 0 then
    cursor = search(cursor)
    rest = cursor == '0' and tonumber(ARGV[20]) or 0
  end
  dead = watch(page, age, cursor, rest)
  sweep(page)
end

-- Due records: the earliest ones that fit, pushed last first, so that the
-- earliest is taken first.
local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, most)
local records, promoted, bytes = {}, 0, 0
for i, delivery in ipairs(due) do
  if bytes >= room then
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

local orders = redis.call('LPOP', ORDERS, ARGV[16]) or {}
return { promoted, drained, dead, unfinished, redis.call('HLEN', INFLIGHT),
         redis.call('HEXISTS', PAUSED, RUN), redis.call('HEXISTS', PAUSED, '*'), orders, redis.call('LLEN', S .. 'unrouted'),
         RAW, redis.call('ZCARD', ISOLATED) }
