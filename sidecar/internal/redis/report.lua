-- report.lua ends deliveries. It decides each report of the batch separately.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  retention of counted tasks, ms
-- ARGV[6]  number of reports
-- ARGV[7]  bytes of all their records
-- ARGV[8]  retention of the values that expire, ms; then for each report: delivery, task
--          id, group id, task id NUL created_at, completion (JSON), key for the value or
--          '', value, SHA-1 of the record or '', and '', 'expires' (the value does) or
--          'dead'. 'dead' is followed by: reason, message, stderr, attempts, time, time in
--          ms, session id. The SHA-1 of a dead letter's record may be '*': this script
--          computes it then
-- Returns  the verdicts in the order of the reports, separated by spaces: one string
--          is cheaper than a list. Verdicts: completed, completed-no-group,
--          group-over, duplicate, dead, bad-group, not-in-flight, stale
--
-- A report counts only while its delivery is in the run's in-flight hash. The run need
-- not be a member: the outcome is valid until the record is requeued. Only the sets of
-- counted tasks decide whether a task was counted before. An existing completion does
-- not decide it, since create_barrier clears the counter but not old completions; a
-- missing counter does not either. A barrier that counts for the first time begins the
-- set of that day, and continues it on later days: a single set of a group name in
-- permanent use would otherwise grow without bound. A set that is a week old becomes that
-- of the day, so that the sets of two weeks are all that have to be looked for. The set is
-- kept for a day after the barrier is full, and for a week after the last task of one that
-- is not. A second copy of a record that ends later than that is not recognised, but a full
-- barrier counts nothing more.
--
-- Deliveries leave the in-flight hash last. If a command is refused before (by an ACL,
-- say), the records are still in flight, and counted tasks are not counted again.
local KEEP, REPORTS = tonumber(ARGV[5]), tonumber(ARGV[6])
local DAY, WEEK = math.floor(now() / KEEP), 7
local FIRST, LENGTH, DEAD_LENGTH = 9, 9, 16 -- where the reports begin, and how long one is
redis.call('HLEN', ATTEMPTS)
redis.call('ZCARD', ATTEMPTS_AT)
redis.call('ZCARD', DEAD)

local function length(at)
  return ARGV[at + 8] == 'dead' and DEAD_LENGTH or LENGTH
end

-- One HMGET costs a third of a HEXISTS for each delivery, but returns the records, which
-- is cheap only if they are small.
local in_flight = {} -- by delivery
if tonumber(ARGV[7]) <= 1024 * REPORTS then
  local at, asked = FIRST, {}
  for report = 1, REPORTS do
    asked[report] = ARGV[at]
    at = at + length(at)
  end
  local n = 0
  in_parts(asked, function(...)
    for _, record in ipairs(redis.call('HMGET', INFLIGHT, ...)) do
      n = n + 1
      in_flight[asked[n]] = record and true
    end
  end)
end

local verdicts, ended, spent, values = {}, {}, {}, {}
local groups, order = {}, {}

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

-- counted_set returns the set of the tasks of a group that its barrier has counted and that
-- began so many days ago.
local function counted_set(id, days)
  return S .. 'counted:' .. (DAY - days) .. ':' .. id
end

-- choose_sets sets the sets of a group that may know a task, the one that the barrier
-- continues, and whether that is a week old. today and yesterday are the sizes of the
-- sets of these days.
local function choose_sets(g, today, yesterday)
  g.set = g.today
  if today > 0 then
    g.sets = { g.today }
  elseif g.counter > 0 and yesterday > 0 then
    g.set = g.yesterday
  elseif g.counter > 0 then
    for days = 2, 2 * WEEK - 1 do
      local set = counted_set(g.id, days)
      local size = redis.pcall('SCARD', set)
      if not failed(size) and size > 0 then
        g.set, g.sets, g.aged = set, { set }, days >= WEEK
        break
      end
    end
  end
  if yesterday > 0 then
    g.sets[#g.sets + 1] = g.yesterday
  end
end

-- load_group reads the four keys of a group. bad: one of them has the wrong type or
-- value. expected is nil if the barrier is not open. The lists hold the names of the
-- tasks that may count, their reports and completions; at maps a name to its index.
local function load_group(id)
  local g = { id = id, barrier = P .. ':barrier:' .. id, completions = P .. ':completions:' .. id,
              today = counted_set(id, 0), yesterday = counted_set(id, 1), sets = {},
              at = {}, names = {}, tasks = {}, reports = {}, texts = {} }
  local expected = redis.pcall('GET', g.barrier .. ':expected')
  local counter = redis.pcall('GET', g.barrier)
  local today, yesterday = redis.pcall('SCARD', g.today), redis.pcall('SCARD', g.yesterday)
  g.bad = failed(expected) or failed(counter) or failed(today) or failed(yesterday)
      or failed(redis.pcall('HLEN', g.completions))
      or expected and not string.match(expected, '^-?%d+$')
      or counter and not (#counter < 18 and (counter == '0' or string.match(counter, '^-?[1-9]%d*$')))
  g.expected = tonumber(expected)
  g.counter = tonumber(counter or 0)
  if g.expected and not g.bad then
    choose_sets(g, today, yesterday)
  end
  groups[id] = g
  order[#order + 1] = g
  return g
end

-- enlist adds a report to its group's lists. It returns the verdict that holds unless
-- the task was counted before.
local function enlist(report, task, id, name, completion)
  if id == '' then
    return 'completed-no-group'
  end
  local g = groups[id] or load_group(id)
  if g.bad then
    return 'bad-group'
  end
  if not g.expected then
    return 'group-over'
  end
  if g.at[name] then
    return 'duplicate'
  end
  local n = #g.names + 1
  g.at[name], g.names[n], g.tasks[n], g.reports[n], g.texts[n] = n, name, task, report, completion
  return 'completed'
end

-- count_group advances the barrier of a group. No other function does.
local function count_group(g)
  local known = {}
  for _, set in ipairs(g.sets) do
    local n = 0
    in_parts(g.names, function(...)
      for _, is in ipairs(redis.call('SMISMEMBER', set, ...)) do
        n = n + 1
        known[n] = known[n] or is == 1
      end
    end)
  end
  local fields, new = {}, {}
  for n, name in ipairs(g.names) do
    if not known[n] and g.counter + #new >= g.expected then
      if verdicts[g.reports[n]] == 'completed' then
        verdicts[g.reports[n]] = 'group-over'
      end
    elseif not known[n] then
      new[#new + 1] = name
      fields[2 * #new - 1], fields[2 * #new] = g.tasks[n], g.texts[n]
    elseif verdicts[g.reports[n]] == 'completed' then
      verdicts[g.reports[n]] = 'duplicate'
    end
  end
  if #new == 0 then
    return
  end
  if g.aged and not failed(redis.pcall('RENAME', g.set, g.today)) then
    g.set = g.today -- earlier versions did not need the permission
  end
  in_parts(new, function(...) redis.call('SADD', g.set, ...) end)
  local full = g.counter + #new >= g.expected
  redis.call('PEXPIRE', g.set, full and KEEP or (WEEK + 1) * KEEP)
  in_parts(fields, function(...) redis.call('HSET', g.completions, ...) end)
  if redis.call('INCRBY', g.barrier, #new) >= g.expected then
    redis.call('PUBLISH', P .. ':barrier_done:' .. g.id, 'complete')
  end
end

-- dead_letter stores the record in flight as a dead letter. The caller does not send the
-- record: it may never have read it whole.
local function dead_letter(at)
  local delivery, task, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local raw = redis.call('HGET', INFLIGHT, delivery)
  local entry = DEAD .. ':' .. delivery
  redis.call('DEL', entry)
  redis.call('HSET', entry, 'raw', raw, 'reason', ARGV[at + 9], 'message', ARGV[at + 10],
    'stderr', ARGV[at + 11], 'attempts', ARGV[at + 12], 'time', ARGV[at + 13],
    'task_id', task, 'group_id', id, 'session_id', ARGV[at + 15], 'counted_as', ARGV[at + 3])
  redis.call('ZADD', DEAD, ARGV[at + 14], delivery)
  return ARGV[at + 7] == '*' and redis.sha1hex(raw) or ARGV[at + 7]
end

-- missing_verdict is the verdict for deliveries that are not in flight. No other run
-- takes the records of a member, so a repeated call of a member means that the first
-- one was applied.
local missing_verdict

local function decide(report, at)
  local delivery, task, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local found = in_flight[delivery]
  if found == nil then
    found = redis.call('HEXISTS', INFLIGHT, delivery) == 1
  end
  if not found then
    missing_verdict = missing_verdict or (member(RUN) and 'not-in-flight' or 'stale')
    return missing_verdict
  end
  local verdict, sha = 'dead', ARGV[at + 7]
  if ARGV[at + 8] == 'dead' then
    sha = dead_letter(at)
    if task ~= '' then
      enlist(report, task, id, ARGV[at + 3], ARGV[at + 4]) -- a bad group, or one that is over, stays as it is
    end
  else
    verdict = enlist(report, task, id, ARGV[at + 3], ARGV[at + 4])
    if verdict == 'bad-group' then
      return verdict
    end
    if ARGV[at + 5] ~= '' then
      values[report] = at
    end
  end
  in_flight[delivery] = false
  ended[#ended + 1] = delivery
  if sha ~= '' then
    spent[#spent + 1] = sha
  end
  return verdict
end

local at = FIRST
for report = 1, REPORTS do
  verdicts[report] = decide(report, at)
  at = at + length(at)
end
for _, g in ipairs(order) do
  count_group(g)
end
for report = 1, REPORTS do -- in their order: of two values for one key the later one stays
  local at = values[report]
  if at and (verdicts[report] == 'completed' or verdicts[report] == 'completed-no-group') then
    if ARGV[at + 8] == 'expires' then
      redis.call('SET', ARGV[at + 5], ARGV[at + 6], 'PX', ARGV[8])
    else
      redis.call('SET', ARGV[at + 5], ARGV[at + 6])
    end
  end
end
for _, sha in ipairs(spent) do
  forget_attempts(sha)
end
in_parts(ended, function(...) redis.call('HDEL', INFLIGHT, ...) end)
return table.concat(verdicts, ' ')
