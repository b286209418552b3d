-- requeue.lua puts a dead letter's record into the queue again and forgets the
-- letter, in one step.
--
-- KEYS[1]  the dead letter
-- ARGV[5]  its delivery id
-- ARGV[6]  'force' or ''
-- ARGV[7]  how long a counted task is remembered, ms
-- Reply    requeued, no-such-dead-letter, group-over or counted
--
-- When report.lua buried the record, it told the group's barrier of a failure if
-- that was open: the counter has it, the completions have it, and the set of
-- counted tasks would call any further completion of this record a duplicate.
-- While nobody has acted on it, which is while the barrier is short of what it
-- expects, that is taken back here: afterwards the barrier waits for this task
-- again, and its next outcome is the one that counts.
--
-- The counter is only lowered by what it surely holds. A barrier that was created
-- anew under an old name starts from nothing, and the sets still know the tasks of
-- the old one: a counter below their number is such a one, and is left alone.
--
-- The record goes to the far end, behind those that never failed, and has all its
-- attempts again.
local ENTRY, DELIVERY, FORCED = KEYS[1], ARGV[5], ARGV[6] == 'force'
check_types()
redis.call('ZCARD', DEAD)
if not usable('HLEN', ENTRY) then
  return 'no-such-dead-letter'
end
local letter = redis.call('HMGET', ENTRY, 'raw', 'task_id', 'group_id', 'counted_as')
local raw, task, id, NAME = letter[1], letter[2], letter[3], letter[4] or ''
if not raw then
  redis.call('ZREM', DEAD, DELIVERY)
  return 'no-such-dead-letter'
end

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

-- open says what can be done at the group's barrier: nothing but 'group-over',
-- 'counted', 'waiting' (it never heard of the task) or 'back' (it can be taken
-- back).
local function open(barrier, completions, sets)
  local expected, counter = redis.pcall('GET', barrier .. ':expected'), redis.pcall('GET', barrier)
  if not expected or failed(expected) or failed(counter) or not string.match(expected, '^%d+$') then
    return 'group-over'
  end
  counter = tonumber(counter or '0')
  if not counter or counter >= tonumber(expected) then
    return 'group-over'
  end
  local known, total = false, 0
  for _, set in ipairs(sets) do
    local is, size = redis.pcall('SISMEMBER', set, NAME), redis.pcall('SCARD', set)
    if failed(is) or failed(size) then
      return 'counted'
    end
    known, total = known or is == 1, total + size
  end
  if not known then
    return 'waiting'
  end
  local completion = redis.pcall('HGET', completions, task)
  if counter < total or not completion or failed(completion) or not string.find(completion, '"success":false', 1, true) then
    return 'counted'
  end
  return 'back'
end

if id and id ~= '' then
  local day = math.floor(now() / ARGV[7])
  local barrier, completions = P .. ':barrier:' .. id, P .. ':completions:' .. id
  local sets = { S .. 'counted:' .. day .. ':' .. id, S .. 'counted:' .. (day - 1) .. ':' .. id }
  local state = open(barrier, completions, sets)
  if state == 'back' then
    for _, set in ipairs(sets) do
      redis.call('SREM', set, NAME)
    end
    redis.call('HDEL', completions, task)
    redis.call('DECR', barrier)
  elseif state ~= 'waiting' and not FORCED then
    return state
  end
end
forget_attempts(redis.sha1hex(raw))
redis.call(PUSH == 'LPUSH' and 'RPUSH' or 'LPUSH', QUEUE, raw)
redis.call('DEL', ENTRY)
redis.call('ZREM', DEAD, DELIVERY)
return 'requeued'
