-- tick.lua does the chores of one second.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  most records to move in each chore   ARGV[6]  most bytes likewise
-- ARGV[7]  how long a run stays on the gone list, ms
-- ARGV[8]  how long attempts are kept, ms       ARGV[9]  most ids to look at
-- ARGV[10] the last scan that the caller was told of, '' for none
-- ARGV[11] how old a scan may be, ms            ARGV[12] how many watch a run
-- ARGV[13] most orders to take
-- Reply    records promoted, records drained, absent runs that the caller
--          watches, unfinished runs, which scan that was, 1 if the run is
--          paused, 1 if all are, orders for the run;
--          error GONE for a run that is no member
--
-- Every sidecar ticks, and what one of them sees serves all: were each to look
-- at each, the work would grow with the square of the fleet. So a scan of the
-- members is made only if the last one is older than ARGV[11] by Redis' clock,
-- or is one that the caller knows already: three ticks of a caller are three
-- scans, as its count of absences needs. The scan is complete, the chores
-- beside it are bounded and go on with the next one; from a long gone list each
-- looks at another part.
--
-- A death that all saw would be reaped by all. An absent run is told to the
-- ARGV[12] live ones before it in a ring, whose order is that of the random
-- parts of the ids, so that the dead of one machine are not each other's
-- neighbours. In a fleet no larger than that everybody watches everybody.
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
local PAUSED, ORDERS = S .. 'paused', S .. 'orders:' .. RUN
redis.call('HLEN', PAUSED)
redis.call('LLEN', ORDERS)
redis.call('HLEN', S .. 'scan')
local NOW = now()
local most, room, look = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[9])

local SCAN = S .. 'scan'

-- scan looks for members without a lease and tells their watchers.
local function scan(page)
  local runs = redis.call('SMEMBERS', RUNS)
  local absent, order, run_of = {}, {}, {}
  in_parts(runs, function(...)
    local part = { ... }
    local keys = {}
    for i, run in ipairs(part) do
      keys[i] = S .. 'alive:' .. run
    end
    if redis.call('EXISTS', unpack(keys)) == #keys then
      return
    end
    for i, run in ipairs(part) do
      if run ~= RUN and redis.call('EXISTS', keys[i]) == 0 then
        absent[run] = true
      end
    end
  end)
  redis.call('DEL', SCAN)
  redis.call('HSET', SCAN, 'at', NOW, 'page', page)
  redis.call('PEXPIRE', SCAN, 10000)
  if next(absent) == nil then
    return
  end
  for i, run in ipairs(runs) do
    order[i] = string.sub(run, -32) .. run
    run_of[order[i]] = run
  end
  table.sort(order)
  local live, before, told = {}, {}, {}
  for _, place in ipairs(order) do
    local run = run_of[place]
    if absent[run] then
      before[run] = #live
    else
      live[#live + 1] = run
    end
  end
  for run, at in pairs(before) do
    for k = 1, math.min(tonumber(ARGV[12]), #live) do
      local watcher = live[(at - k) % #live + 1]
      told[watcher] = (told[watcher] and told[watcher] .. ' ' or '') .. run
    end
  end
  local fields = {}
  for watcher, names in pairs(told) do
    fields[#fields + 1] = watcher
    fields[#fields + 1] = names
  end
  in_parts(fields, function(...)
    redis.call('HSET', SCAN, ...)
  end)
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
    local inbox = S .. 'inbox:' .. run
    while drained < most and bytes < room do
      local record = redis.call('RPOP', inbox)
      if not record then
        break
      end
      redis.call(PUSH, QUEUE, record)
      drained, bytes = drained + 1, bytes + #record
    end
    if redis.call('HLEN', S .. 'inflight:' .. run) > 0 then
      unfinished[#unfinished + 1] = run
    elseif redis.call('EXISTS', inbox) == 0 then
      redis.call('DEL', S .. 'meta:' .. run)
    end
  end
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', GONE, '-inf', NOW - ARGV[7], 'LIMIT', 0, look)) do
    if redis.call('EXISTS', S .. 'inbox:' .. run, S .. 'inflight:' .. run) == 0 then
      redis.call('ZREM', GONE, run)
    end
  end
  for _, sha in ipairs(redis.call('ZRANGEBYSCORE', ATTEMPTS_AT, '-inf', NOW - ARGV[8], 'LIMIT', 0, look)) do
    forget_attempts(sha)
  end
end

local last = redis.call('HMGET', SCAN, 'at', 'page')
local age = NOW - (tonumber(last[1]) or 0)
if age >= tonumber(ARGV[11]) or age < 0 or last[1] == ARGV[10] then
  local page = (tonumber(last[2]) or 0) + 1
  scan(page)
  sweep(page)
end
local told = redis.call('HMGET', SCAN, 'at', RUN)
local absent = {}
for run in string.gmatch(told[2] or '', '%S+') do
  absent[#absent + 1] = run
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
  redis.call('HDEL', DELAYED_RECORDS, due[i])
end

local orders = redis.call('LPOP', ORDERS, ARGV[13]) or {}
return { promoted, drained, absent, unfinished, told[1],
         redis.call('HEXISTS', PAUSED, RUN), redis.call('HEXISTS', PAUSED, '*'), orders }
