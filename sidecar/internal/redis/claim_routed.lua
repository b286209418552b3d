-- claim_routed.lua claims for a run that has several kinds of worker, each with
-- slots of its own, chosen by a pattern of the task's id.
--
-- KEYS[1], ARGV and Reply are those of claiming.lua (ARGV[6] is how many records
-- are looked at in each list), and
-- ARGV[11]   the kinds' patterns, one a line: the first one that fits counts
-- ARGV[12]   after how many ms a record that no run takes is over
-- ARGV[13…]  free slots of each kind
-- Reply      fourth: the kind of each record, from 1; 0 for a task that cannot
--            be told, -1 for one that nobody takes. Fifth: records left in the
--            queue. Sixth: how many of it were moved out of the way
--
-- A record of a kind whose slots are taken stays where it is, and those of other
-- kinds are taken from behind it, as far as the first ARGV[6] records of the
-- queue reach. One of no kind here goes to the unrouted ones, where every run
-- looks: it would be in everybody's way else. So does one that a BLMOVE
-- brought: the inbox is emptied onto the queue first, to where it came from.
--
-- A record that has been unrouted for ARGV[12] is claimed to be ended, unless
-- some member takes its kind and merely has no slot for it: then its time
-- begins anew. A member that claims and has named no patterns takes everything;
-- one that has not claimed yet does not count, or one that is restarted again and
-- again would keep such records for ever.
redis.call('LLEN', UNROUTED)
local kinds = {}
local patterns = compile_all(ARGV[11])
local before = earlier()
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
local NOW, KEEP = now(), tonumber(ARGV[12])

local free, total = {}, 0
for i = 1, #patterns do
  free[i] = tonumber(ARGV[12 + i])
  total = total + free[i]
end

-- first is the part of a list that is looked at, beginning at its end: at most
-- `most` elements, and no more bytes than ARGV[7].
local function first(list, right)
  local all, size = {}, 0
  local hand = 8
  while #all < most and size < tonumber(ARGV[7]) do
    local from = #all
    local got
    if right then
      got = redis.call('LRANGE', list, -from - hand, -from - 1)
    else
      got = redis.call('LRANGE', list, from, from + hand - 1)
    end
    for i = 1, #got do
      local element = right and got[#got + 1 - i] or got[i]
      all[#all + 1], size = element, size + #element
    end
    if #got < hand then
      break
    end
  end
  return all
end

-- full: the claim has no room for it.
local function full(record)
  return #records > 0 and bytes + #record > room
end

local function claim(record, k)
  records[#records + 1], kinds[#kinds + 1] = record, k
  bytes = bytes + #record
end

-- takes claims the record if its kind has a slot. Nothing is taken past one that
-- has a slot and no room: those of a kind are to keep their order.
local function takes(record, k)
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

-- served: some other member takes the task.
local others
local function served(record)
  if not others then
    others = {}
    for _, run in ipairs(redis.call('SMEMBERS', RUNS)) do
      local meta = S .. 'meta:' .. run
      local said = usable('HLEN', meta) and redis.call('HMGET', meta, 'kinds', 'turn') or {}
      if run ~= RUN and (said[1] or said[2]) then
        others[#others + 1] = said[1] and compile_all(said[1]) or 'all'
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

-- The unrouted ones come first: they have waited longest. Where there are more
-- than one look can see, those of others are put behind the rest.
local unrouted = first(UNROUTED, false)
local more = redis.call('LLEN', UNROUTED) > #unrouted
local changed, front, back = false, {}, {}
local function keep(entry, mine)
  local list = (mine or not more) and front or back
  list[#list + 1] = entry
end
for _, entry in ipairs(unrouted) do
  local at, record = unstamped(entry)
  local k = kind(patterns, record)
  if takes(record, k) then
    changed = true
  elseif k >= 0 then
    keep(entry, true)
  elseif NOW - at < KEEP or full(record) then
    keep(entry, false)
  else
    changed = true
    if served(record) then
      keep(stamped(NOW, record), false)
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
local seen = first(QUEUE, ARGV[4] == 'right')
local staying, moved, last = {}, {}, 0
for i, record in ipairs(seen) do
  local k = kind(patterns, record)
  if takes(record, k) then
    last = i
  elseif k < 0 then
    moved[#moved + 1] = stamped(NOW, record)
    last = i
  else
    staying[#staying + 1] = record
  end
end
-- What is behind the last one that goes is not touched; what stays before it is
-- put back, in its order.
if last > 0 then
  redis.call(POP, QUEUE, last)
  for i = #staying - (#seen - last), 1, -1 do
    redis.call(PUSH, QUEUE, staying[i])
  end
  in_parts(moved, function(...) redis.call('RPUSH', UNROUTED, ...) end)
end

local reply = own()
reply[4], reply[5], reply[6] = kinds, redis.call('LLEN', QUEUE), #moved
return reply
