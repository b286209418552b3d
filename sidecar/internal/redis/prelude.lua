-- prelude.lua precedes the other scripts of this folder: the names of the keys
-- (keys.go has the same ones), the first command, and the shared rules.
--
-- KEYS[1]  a key of the run. It carries the hash tag of the prefix and therefore the
--          slot of all other keys, which are derived here
-- ARGV[1]  key prefix
-- ARGV[2]  the caller's run id
-- ARGV[3]  lease of a run, ms
-- ARGV[4]  end of the queue that records are claimed from: left or right; for a queue
--          with a name of its own, a space and that name follow
-- Returns  nothing; the script that follows returns the reply
local P, RUN = ARGV[1], ARGV[2]
local S = P .. ':sidecar:'
local SIDE, NAMED = string.match(ARGV[4], '^(%a*) ?(.*)$')
local QUEUE, RUNS, GONE = NAMED ~= '' and NAMED or P .. ':queue', S .. 'runs', S .. 'gone'
local INFLIGHT, META = S .. 'inflight:' .. RUN, S .. 'meta:' .. RUN
local ATTEMPTS, ATTEMPTS_AT = S .. 'attempts', S .. 'attempts:at'
local DELAYED, DELAYED_RECORDS = S .. 'delayed', S .. 'delayed:records'
local ISOLATED = S .. 'isolated'
local DEAD = S .. 'dead'
local CLOCK = S .. 'clock'
local POP, PUSH = 'LPOP', 'LPUSH'
if SIDE == 'right' then
  POP, PUSH = 'RPOP', 'RPUSH'
end

-- The first command of every script is a write that changes no decision. READONLY,
-- MISCONF and NOREPLICAS fail here, before any change, and after a first write Redis
-- lets the other writes of a script pass when memory is full. The write also renews
-- the caller's lease, which is correct: a caller is alive. The key does not exist for
-- a run that is gone.
local LEASED = redis.call('PEXPIRE', S .. 'alive:' .. RUN, ARGV[3])

local function member(run)
  return redis.call('SISMEMBER', RUNS, run) == 1
end

local function gone()
  return redis.error_reply('GONE this run is not a member')
end

-- renew creates an expired lease again and stores the description of the run, if
-- there is one, for the time of a lease.
local function renew(about, label)
  if LEASED == 0 then
    redis.call('SET', S .. 'alive:' .. RUN, '1', 'PX', ARGV[3])
  end
  if about ~= '' then
    redis.call('SET', S .. 'info:' .. RUN, about, 'PX', ARGV[3])
    -- The set belongs to Graflow and other programs use it. A value of another type
    -- there must not cost the lease.
    local known = redis.pcall('SADD', P .. ':workers', label)
    if known == 1 then
      redis.call('HSET', META, 'worker', label) -- end_run removes it
    end
  end
end

-- stored_clock reads the stored time of the clock and its stored offset. A value that
-- is not a time in ms counts as missing: an infinite one made every tick fail.
local function stored_clock(time)
  local noted = redis.call('HMGET', CLOCK, 'at', 'ahead')
  local function ms(text, default)
    local n = tonumber(text)
    return n and n > -1e15 and n < 1e15 and n or default
  end
  return ms(noted[1], time), ms(noted[2], 0)
end

-- now returns a steady time in ms, Redis' clock itself, and the latest time that the
-- steady one may be. The steady time is Redis' clock, since the clocks of sidecars
-- differ, plus all steps back since the prefix came into use: a delayed record would
-- otherwise wait for as long as the step. tick.lua stores the clock twice a second.
--
-- Until tick.lua has decided whether a clock that is far ahead of the stored one has
-- stepped or was not looked at, the steady time is two seconds after the stored one. A
-- record that was delayed between a step ahead and the next tick would otherwise wait
-- for as long as the step.
local steady, clock, latest
local function now()
  if not steady then
    local t = redis.call('TIME')
    clock = t[1] * 1000 + math.floor(t[2] / 1000)
    local at, ahead = stored_clock(clock)
    if clock < at then
      ahead = ahead + at - clock
      redis.call('HSET', CLOCK, 'at', clock, 'ahead', ahead)
    end
    latest = clock + ahead
    steady = math.min(clock, at + 2000) + ahead
  end
  return steady, clock, latest
end

-- usable reports whether a key of a run is missing or of the expected type. command is
-- HLEN or LLEN. A key of another type holds no record of a sidecar and is skipped: the
-- error would otherwise end the chores of every sidecar of the prefix for one key of
-- one run.
local function usable(command, key)
  local reply = redis.pcall(command, key)
  if type(reply) ~= 'table' or not reply.err then
    return true
  end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then
    redis.call(command, key) -- ends the script
  end
  return false
end

-- meta_of returns the key of a run's metadata. It deletes a key of another type, which
-- would otherwise block the recovery of the run's records.
local function meta_of(run)
  local meta = S .. 'meta:' .. run
  if not usable('HLEN', meta) then
    redis.call('DEL', meta)
  end
  return meta
end

-- end_run removes a run from the members and enters it into the gone list. A run that
-- Redis has forgotten and that is not on the gone list is entered as one that left:
-- tick.lua then returns the records of its inbox and its in-flight hash at no cost.
-- in_flight is the number of its deliveries.
local function end_run(run, mode, in_flight)
  local is = redis.call('SREM', RUNS, run) == 1
  if not is and (mode ~= 'clean' or redis.call('ZSCORE', GONE, run)) then
    return
  end
  local meta = meta_of(run)
  redis.call('ZADD', GONE, now(), run)
  if is or redis.call('EXISTS', S .. 'inbox:' .. run, S .. 'inflight:' .. run) > 0 then
    redis.call('HSET', meta, 'held', in_flight, 'ended', mode)
  end
  redis.call('DEL', S .. 'alive:' .. run, S .. 'info:' .. run, S .. 'orders:' .. run)
  redis.call('HDEL', S .. 'paused', run)
  local worker = redis.call('HGET', meta, 'worker')
  if worker then
    redis.pcall('SREM', P .. ':workers', worker)
  end
end

-- in_parts calls f with the elements of the list, a bounded and even number at a time,
-- because the Lua stack bounds the number of arguments.
local function in_parts(list, f)
  for i = 1, #list, 200 do
    f(unpack(list, i, math.min(i + 199, #list)))
  end
end

-- sequence returns the claim sequence number at the end of a delivery id.
local function sequence(delivery)
  local number = string.match(delivery, '%.(%d+)$') -- in miniredis no match is no argument
  return tonumber(number) or 0
end

-- descending sorts delivery ids for pushing them one by one to the end of the queue
-- that records are claimed from, which restores their order.
local function descending(deliveries)
  table.sort(deliveries, function(a, b)
    local x, y = sequence(a), sequence(b)
    if x ~= y then
      return x > y
    end
    return a > b
  end)
  return deliveries
end

-- attempts returns of a record: the number of used attempts; the cause of the last one
-- ('child', 'run' or 'delay'; 'beside' for a run whose record need not run alone, see
-- delay.lua; 'unread' if no attempt is used); the number of shared losses that did not
-- count; and whether the last worker died before it read the record. It is stored as
-- 'count:cause', 'count:cause:shared_losses' or 'count:cause:shared_losses:u'.
local function attempts(sha)
  local v = redis.call('HGET', ATTEMPTS, sha)
  if not v then
    return 0, '', 0, false
  end
  local count, cause, shared_losses, unread = string.match(v, '^(%d+):(%a*):?(%d*):?(u?)$')
  return tonumber(count) or 0, cause or '', tonumber(shared_losses) or 0, unread == 'u'
end

local function set_attempts(sha, count, cause, shared_losses, unread)
  local v = count .. ':' .. cause
  if unread then
    v = v .. ':' .. (shared_losses or '') .. ':u'
  elseif shared_losses then
    v = v .. ':' .. shared_losses
  end
  redis.call('HSET', ATTEMPTS, sha, v)
  redis.call('ZADD', ATTEMPTS_AT, now(), sha)
end

local function forget_attempts(sha)
  redis.call('HDEL', ATTEMPTS, sha)
  redis.call('ZREM', ATTEMPTS_AT, sha)
end

-- record_loss counts a lost delivery towards max. It returns the count and whether the
-- attempts are exhausted. A loss shared by several tasks never uses the last attempt:
-- the record stays one attempt short and must run alone. A limit of one allows no
-- second run, so shared losses count there.
--
-- Shared losses have a limit of their own, ten times as high. A task that waits for a
-- nested task is not alone; if the nested task kills the sidecar each time, as a new
-- record each time, the outer task would otherwise be repeated forever.
local function record_loss(sha, max, shared, cause)
  local count, _, shared_losses = attempts(sha)
  if count + 1 < max then
    count, shared_losses = count + 1, nil
  elseif shared and max > 1 and count < max and shared_losses + 1 < 10 * max then
    count, shared_losses = max - 1, shared_losses + 1
  else
    count, shared_losses = max, nil
  end
  set_attempts(sha, count, cause, shared_losses)
  return count, count >= max
end

-- record_unread_loss counts the death of a worker that had not read the record. It
-- counts only if the death before was of the same sort. It returns the count, whether
-- the attempts are exhausted, and whether an attempt was used.
local function record_unread_loss(sha, max, shared, cause)
  local count, last_cause, shared_losses, unread = attempts(sha)
  if not unread then
    -- Without a cause, claims skip the entry and no report clears it.
    set_attempts(sha, count, last_cause ~= '' and last_cause or 'unread', shared_losses > 0 and shared_losses or nil, true)
    return count, false
  end
  local exhausted
  count, exhausted = record_loss(sha, max, shared, cause)
  if exhausted then
    set_attempts(sha, count, cause, nil, true) -- a repeated call counts the same
  end
  return count, exhausted, true
end

-- check_types reads the keys that the functions above write, so that a wrong type
-- (WRONGTYPE) ends the script before its first change: Lua does not roll back.
local function check_types()
  redis.call('LLEN', QUEUE)
  redis.call('HLEN', INFLIGHT)
  redis.call('HLEN', META)
  redis.call('HLEN', ATTEMPTS)
  redis.call('ZCARD', ATTEMPTS_AT)
  redis.call('HLEN', CLOCK)
end
