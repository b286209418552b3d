-- prelude.lua stands in front of every other script of this folder: the names
-- of the keys (keys.go has the same ones), the first command, and the rules
-- that several scripts share.
--
-- KEYS[1]  a key of the run; it carries the prefix's hash tag, and with it the
--          slot of all other keys, which are derived here
-- ARGV[1]  key prefix            ARGV[3]  lease of a run, ms
-- ARGV[2]  the caller's run id   ARGV[4]  end of the queue we take from: left, right
local P, RUN = ARGV[1], ARGV[2]
local S = P .. ':sidecar:'
local QUEUE, RUNS, GONE = P .. ':queue', S .. 'runs', S .. 'gone'
local INFLIGHT, META = S .. 'inflight:' .. RUN, S .. 'meta:' .. RUN
local ATTEMPTS, ATTEMPTS_AT = S .. 'attempts', S .. 'attempts:at'
local DELAYED, DELAYED_RECORDS = S .. 'delayed', S .. 'delayed:records'
local ISOLATED = S .. 'isolated'
local DEAD = S .. 'dead'
local CLOCK = S .. 'clock'
local POP, PUSH = 'LPOP', 'LPUSH'
if ARGV[4] == 'right' then
  POP, PUSH = 'RPOP', 'RPUSH'
end

-- The first command of every script is a write that changes no decision:
-- READONLY, MISCONF and NOREPLICAS fail here, before anything is done, and
-- once a script has written, Redis lets its other writes pass when memory is
-- full. It also lengthens the caller's lease, which proves nothing wrong: who
-- calls is alive. For a run that is gone there is no such key.
local LEASED = redis.call('PEXPIRE', S .. 'alive:' .. RUN, ARGV[3])

local function member(run)
  return redis.call('SISMEMBER', RUNS, run) == 1
end

local function gone()
  return redis.error_reply('GONE this run is not a member')
end

-- renew makes the lease anew where it ran out, and notes what the run says of
-- itself, if anything, for as long.
local function renew(about, label)
  if LEASED == 0 then
    redis.call('SET', S .. 'alive:' .. RUN, '1', 'PX', ARGV[3])
  end
  if about ~= '' then
    redis.call('SET', S .. 'info:' .. RUN, about, 'PX', ARGV[3])
    -- The set is Graflow's to name and anybody's to use: what else lies there is no
    -- reason to give up a lease.
    local known = redis.pcall('SADD', P .. ':workers', label)
    if known == 1 then
      redis.call('HSET', META, 'worker', label) -- whoever ends the run takes it out
    end
  end
end

-- noted_clock reads what is noted of the clock, its time and by how much it is ahead.
-- What is no time in ms counts as not noted: with an infinite one every tick failed.
local function noted_clock(time)
  local noted = redis.call('HMGET', CLOCK, 'at', 'ahead')
  local function ms(text, default)
    local n = tonumber(text)
    return n and n > -1e15 and n < 1e15 and n or default
  end
  return ms(noted[1], time), ms(noted[2], 0)
end

-- now is Redis' clock in ms, since sidecars need not agree on the time, and by how
-- much that has stepped back since the prefix is in use: what is kept with a time (a
-- retry that waits 2 s) would otherwise wait for as long as the step. tick.lua notes
-- twice a second what the clock says. The second result is the clock itself.
local steady, clock
local function now()
  if not steady then
    local t = redis.call('TIME')
    clock = t[1] * 1000 + math.floor(t[2] / 1000)
    local at, ahead = noted_clock(clock)
    if clock < at then
      ahead = ahead + at - clock
      redis.call('HSET', CLOCK, 'at', clock, 'ahead', ahead)
    end
    steady = clock + ahead
  end
  return steady, clock
end

-- usable: a key that belongs to some run holds what a sidecar puts there, or nothing.
-- command is HLEN or LLEN. What is of another type is nothing of ours and has no record
-- of ours in it: it is left alone. An error would end the chores of every sidecar of
-- the prefix, for one key of one run that may be long gone.
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

-- meta_of is the key of what is noted about a run. One of another type cannot be used
-- for that, and the run's records must not wait for it: it makes room.
local function meta_of(run)
  local meta = S .. 'meta:' .. run
  if not usable('HLEN', meta) then
    redis.call('DEL', meta)
  end
  return meta
end

-- end_run makes a run no member. One that Redis has forgotten, and that is on no list
-- of those that ended, is entered there as one that left: tick.lua then finds what lies
-- in its inbox and in its in-flight hash, and returns it at no cost. held is how many
-- deliveries it had.
local function end_run(run, mode, held)
  local is = redis.call('SREM', RUNS, run) == 1
  if not is and (mode ~= 'clean' or redis.call('ZSCORE', GONE, run)) then
    return
  end
  local meta = meta_of(run)
  redis.call('ZADD', GONE, now(), run)
  if is or redis.call('EXISTS', S .. 'inbox:' .. run, S .. 'inflight:' .. run) > 0 then
    redis.call('HSET', meta, 'held', held, 'ended', mode)
  end
  redis.call('DEL', S .. 'alive:' .. run, S .. 'info:' .. run, S .. 'orders:' .. run)
  redis.call('HDEL', S .. 'paused', run)
  local worker = redis.call('HGET', meta, 'worker')
  if worker then
    redis.pcall('SREM', P .. ':workers', worker)
  end
end

-- in_parts calls f with the list's elements, a bounded and even number at a
-- time: a Lua stack does not hold any number of arguments.
local function in_parts(list, f)
  for i = 1, #list, 200 do
    f(unpack(list, i, math.min(i + 199, #list)))
  end
end

-- sequence is the claim sequence number at the end of a delivery id.
local function sequence(delivery)
  return tonumber(string.match(delivery, '%.(%d+)$')) or 0
end

-- descending sorts delivery ids so that pushing one after the other to the end
-- of the queue that is taken from restores their order.
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

-- attempts of a record: how many are used up; what used up the last one (child,
-- run, delay; beside for a run, where the record is not to be alone all the same,
-- see delay.lua; unread where none is); how many deaths in company did not count;
-- and whether the last worker that it was given to died before it read it. Stored as
-- 'count:cause', 'count:cause:company' or 'count:cause:company:u'.
local function attempts(sha)
  local v = redis.call('HGET', ATTEMPTS, sha)
  if not v then
    return 0, '', 0, false
  end
  local count, cause, company, unread = string.match(v, '^(%d+):(%a*):?(%d*):?(u?)$')
  return tonumber(count) or 0, cause or '', tonumber(company) or 0, unread == 'u'
end

local function set_attempts(sha, count, cause, company, unread)
  local v = count .. ':' .. cause
  if unread then
    v = v .. ':' .. (company or '') .. ':u'
  elseif company then
    v = v .. ':' .. company
  end
  redis.call('HSET', ATTEMPTS, sha, v)
  redis.call('ZADD', ATTEMPTS_AT, now(), sha)
end

local function forget_attempts(sha)
  redis.call('HDEL', ATTEMPTS, sha)
  redis.call('ZREM', ATTEMPTS_AT, sha)
end

-- lose counts a death towards max and returns the count and whether that was
-- the end. A death that several tasks shared never supplies the last attempt:
-- the record stays one short of it and is to run alone. With a limit of one
-- there is nothing short of it: whoever sets that wants no second run.
--
-- Such deaths have a limit of their own, ten times as high. A task that waits
-- for a nested one is not alone, and where that kills the whole sidecar each
-- time it is a new record each time, too: it would take the task around it along
-- for ever.
local function lose(sha, max, shared, cause)
  local count, _, company = attempts(sha)
  if count + 1 < max then
    count, company = count + 1, nil
  elseif shared and max > 1 and count < max and company + 1 < 10 * max then
    count, company = max - 1, company + 1
  else
    count, company = max, nil
  end
  set_attempts(sha, count, cause, company)
  return count, count >= max
end

-- miss counts the death of a worker that has not read the record: not at all, unless
-- the one before was such a death, too. What it returns is lose's.
local function miss(sha, max, shared, cause)
  local count, was, company, unread = attempts(sha)
  if not unread then
    -- A cause, or claims do not tell of the entry, and no report clears it.
    set_attempts(sha, count, was ~= '' and was or 'unread', company > 0 and company or nil, true)
    return count, false
  end
  local exhausted
  count, exhausted = lose(sha, max, shared, cause)
  if exhausted then
    set_attempts(sha, count, cause, nil, true) -- a retry comes here again
  end
  return count, exhausted, true
end

-- check_types reads the keys that the rules above write, so that a wrong type
-- (WRONGTYPE) ends the script before its first change: Lua does not roll back.
local function check_types()
  redis.call('LLEN', QUEUE)
  redis.call('HLEN', INFLIGHT)
  redis.call('HLEN', META)
  redis.call('HLEN', ATTEMPTS)
  redis.call('ZCARD', ATTEMPTS_AT)
  redis.call('HLEN', CLOCK)
end
