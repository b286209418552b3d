-- requeue.lua requeues the record of a dead letter and deletes the letter, in one step.
--
-- KEYS[1]  the dead letter
-- ARGV[5]  its delivery id
-- ARGV[6]  'force' or ''
-- ARGV[7]  retention of counted tasks, ms
-- ARGV[8]  newest format that the caller knows, see format.lua
-- Returns  'requeued', 'no-such-dead-letter', 'group-over' or 'counted'. Error FORMAT for
--          a caller that does not know the stored format
--
-- When report.lua stored the dead letter, it counted a failure at the group's barrier if
-- that was open: the counter and the completions include it, and the set of counted
-- tasks makes any further completion of the record a duplicate. While the barrier is
-- below its expected number, this script undoes that: the barrier waits for the task
-- again, and its next outcome counts.
--
-- The counter is lowered only if it certainly includes the task. A barrier that was
-- created again under an old name starts at zero while the sets still hold the tasks of
-- the old one: a counter below their number belongs to such a barrier and stays. The sets
-- are forgotten after a day or two, and a group may wait for longer. Then the completions
-- are compared in their place, which are kept as long as the barrier, and also outlive it.
--
-- The record goes to the far end of the queue, behind those that never failed, with all
-- its attempts.
local ENTRY, DELIVERY, FORCED = KEYS[1], ARGV[5], ARGV[6] == 'force'
local refusal = unknown_format(ARGV[8])
if refusal then
  return refusal
end
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

-- barrier_state returns the state of the task at its group's barrier: 'group-over',
-- 'counted', 'waiting' (the task was never counted) or 'revocable' (the failure can be
-- undone).
local function barrier_state(barrier, completions, sets)
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
  local completion = task and redis.pcall('HGET', completions, task)
  if not known then
    if not completion or failed(completion) then
      return 'waiting'
    end
    total = redis.call('HLEN', completions)
  end
  if counter < total or not completion or failed(completion) or not string.find(completion, '"success":false', 1, true) then
    return 'counted'
  end
  return 'revocable'
end

if id and id ~= '' then
  local day = math.floor(now() / ARGV[7])
  local barrier, completions = P .. ':barrier:' .. id, P .. ':completions:' .. id
  local sets = {}
  for days = 0, 13 do -- report.lua does not continue an older set
    sets[days + 1] = S .. 'counted:' .. (day - days) .. ':' .. id
  end
  local state = barrier_state(barrier, completions, sets)
  if state == 'revocable' then
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
