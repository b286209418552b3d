-- tick.lua does the chores of one second.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  most records to move in each chore   ARGV[6]  most bytes likewise
-- ARGV[7]  how long a run stays on the gone list, ms
-- ARGV[8]  how long attempts are kept, ms       ARGV[9]  most ids to look at
-- ARGV[10] most orders to take
-- Reply    records promoted, records drained, absent runs, unfinished runs,
--          1 if the run is paused, 1 if all are, orders for the run;
--          error GONE for a run that is no member
--
-- Orders are taken: a reply that is lost loses them, and whoever gave them sees
-- that nothing happens and gives them again. A drain or a restart that is done
-- twice is worse than one that is asked for twice.
--
-- Only the scan of the members is complete, for it must be: a run is reaped
-- when it was absent in three consecutive scans. The other chores are bounded
-- and go on at the next call; from a long gone list each second looks at
-- another part.
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
local NOW = now()
local most, room, look = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[9])

local absent = {}
for _, run in ipairs(redis.call('SMEMBERS', RUNS)) do
  if run ~= RUN and redis.call('EXISTS', S .. 'alive:' .. run) == 0 then
    absent[#absent + 1] = run
  end
end

-- A BLMOVE of a client that has left can still run: what it put into the inbox
-- of a run that is gone goes back. Whoever reaps may die in the middle: what
-- is left is found here.
local drained, bytes, unfinished = 0, 0, {}
local pages = math.max(math.ceil(redis.call('ZCARD', GONE) / look), 1)
local start = math.floor(NOW / 1000) % pages * look
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

-- Due records: the earliest ones that fit, pushed last first, so that the
-- earliest is taken first.
local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, most)
local records, promoted = {}, 0
bytes = 0
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

for _, sha in ipairs(redis.call('ZRANGEBYSCORE', ATTEMPTS_AT, '-inf', NOW - ARGV[8], 'LIMIT', 0, look)) do
  forget_attempts(sha)
end

local orders = redis.call('LPOP', ORDERS, ARGV[10]) or {}
return { promoted, drained, absent, unfinished,
         redis.call('HEXISTS', PAUSED, RUN), redis.call('HEXISTS', PAUSED, '*'), orders }
