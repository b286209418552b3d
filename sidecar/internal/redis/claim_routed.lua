-- claim_routed.lua claims records for a run with several kinds of worker. Each kind
-- has its own slots and is selected by a pattern of the task id.
--
-- KEYS       as in claiming.lua
-- ARGV       as in claiming.lua (ARGV[6] is the number of records that are examined
--            in each list), and
-- ARGV[11]   the patterns of the kinds, one a line; the first match counts
-- ARGV[12]   time after which an unrouted record is claimed as unroutable, ms
-- ARGV[13…]  free slots of each kind
-- Returns    as in claiming.lua, and: fourth, the kind of each record, from 1; 0 if
--            the task id cannot be read, -1 if no kind of any member matches. Fifth,
--            records left in the queue. Sixth, records moved to the unrouted list
--
-- A record of a kind without a free slot stays in place; records of other kinds are
-- claimed from behind it, within the first ARGV[6] records of the queue. A record
-- that matches no kind of this run moves to the unrouted list, which every run
-- reads; it would otherwise block the head of the queue. The inbox is first emptied
-- onto the queue, since a BLMOVE may have brought such a record.
--
-- A record that has been unrouted for ARGV[12] is claimed as unroutable, unless
-- another member has a matching kind whose slots are taken: then its time starts
-- again. A member that claims without patterns matches every task. A member that
-- has not claimed yet does not count: one in a crash loop would otherwise keep such
-- records forever.
redis.call('LLEN', UNROUTED)
local kinds = {}
local patterns = compile_all(ARGV[11])
local before = previous_answer()
if before then
  for i, record in ipairs(records) do
    if type(record) == 'table' then
      record = record[2]
    end
    kinds[i] = record and kind(patterns, record) or 0
  end
  before[4], before[5], before[6] = kinds, redis.call('LLEN', QUEUE), 0
  return before
end
redis.call('HSET', META, 'kinds', ARGV[11])
-- A record is stamped with the latest time, which may turn out to be too late. The steady
-- one may turn out to be too early, and the record would have no time to be claimed.
local NOW, _, LATEST = now()
local KEEP = tonumber(ARGV[12])

local free, total = {}, 0
for i = 1, #patterns do
  free[i] = tonumber(ARGV[12 + i])
  total = total + free[i]
end

-- examined returns the records of one end of a list that are examined: at most
-- `most` records and about ARGV[7] bytes.
local function examined(list, right)
  local all, size = {}, 0
  local chunk = 8
  while #all < most and size < tonumber(ARGV[7]) do
    local from = #all
    local got
    if right then
      got = redis.call('LRANGE', list, -from - chunk, -from - 1)
    else
      got = redis.call('LRANGE', list, from, from + chunk - 1)
    end
    for i = 1, #got do
      local element = right and got[#got + 1 - i] or got[i]
      all[#all + 1], size = element, size + #element
    end
    if #got < chunk then
      break
    end
  end
  return all
end

-- full reports whether the record exceeds the byte limit of the claim.
local function full(record)
  return #records > 0 and bytes + #record > max_bytes
end

local function claim(record, k)
  records[#records + 1], kinds[#kinds + 1] = record, k
  bytes = bytes + #record
end

-- try_claim claims the record if its kind has a free slot. A record that has a slot
-- and exceeds the byte limit ends the claim: records of a kind keep their order.
local function try_claim(record, k)
  if k < 0 or total <= 0 or k > 0 and free[k] <= 0 then
    return false
  end
  if full(record) then
    total = 0
    return false
  end
  if k > 0 then
    free[k] = free[k] - 1
  end
  total = total - 1
  claim(record, k)
  return true
end

-- matches_elsewhere reports whether another member has a kind for the record.
local others
local function matches_elsewhere(record)
  if not others then
    others = {}
    for _, run in ipairs(redis.call('SMEMBERS', RUNS)) do
      local meta = S .. 'meta:' .. run
      local published = usable('HLEN', meta) and redis.call('HMGET', meta, 'kinds', 'turn') or {}
      if run ~= RUN and published[2] then
        others[#others + 1] = published[1] and compile_all(published[1]) or 'all'
      end
    end
  end
  for _, theirs in ipairs(others) do
    if theirs == 'all' or kind(theirs, record) >= 0 then
      return true
    end
  end
  return false
end

-- Unrouted records come first: they have waited longest. If the list is longer than
-- the examined part, records for other runs are rotated to its end.
local unrouted = examined(UNROUTED, false)
local more = redis.call('LLEN', UNROUTED) > #unrouted
local changed, front, back = false, {}, {}
local function keep(entry, mine)
  local list = (mine or not more) and front or back
  list[#list + 1] = entry
end
for _, entry in ipairs(unrouted) do
  local at, record = unstamped(entry)
  local k = kind(patterns, record)
  if try_claim(record, k) then
    changed = true
  elseif k >= 0 then
    keep(entry, true)
  elseif at > LATEST then -- stamped between a step of the clock and the next tick
    changed = true
    keep(stamped(LATEST, record), false)
  elseif NOW - at < KEEP or full(record) then
    keep(entry, false)
  else
    changed = true
    if matches_elsewhere(record) then
      keep(stamped(LATEST, record), false)
    else
      claim(record, k)
    end
  end
end
if changed or #back > 0 then
  redis.call('LPOP', UNROUTED, #unrouted)
  for i = #front, 1, -1 do
    redis.call('LPUSH', UNROUTED, front[i])
  end
  in_parts(back, function(...) redis.call('RPUSH', UNROUTED, ...) end)
end

for _ = 1, math.min(redis.call('LLEN', INBOX), most) do
  redis.call(PUSH, QUEUE, redis.call('RPOP', INBOX))
end
local seen = examined(QUEUE, SIDE == 'right')
local staying, moved, last = {}, {}, 0
for i, record in ipairs(seen) do
  local k = kind(patterns, record)
  if try_claim(record, k) then
    last = i
  elseif k < 0 then
    moved[#moved + 1] = stamped(LATEST, record)
    last = i
  else
    staying[#staying + 1] = record
  end
end
-- Records behind the last one that leaves are not touched; the ones before it that
-- stay are pushed back in their order.
if last > 0 then
  redis.call(POP, QUEUE, last)
  for i = #staying - (#seen - last), 1, -1 do
    redis.call(PUSH, QUEUE, staying[i])
  end
  in_parts(moved, function(...) redis.call('RPUSH', UNROUTED, ...) end)
end

local reply = commit()
reply[4], reply[5], reply[6] = kinds, redis.call('LLEN', QUEUE), #moved
return reply
