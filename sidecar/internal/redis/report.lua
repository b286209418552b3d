-- report.lua ends deliveries. Each report of the batch is decided alone.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  how long a counted task is remembered, ms
-- ARGV[6]  number of reports
-- ARGV[7]  bytes of all their records; then for each report:
--          delivery, task id, group id, task id NUL created_at, completion
--          (JSON), key for the value or '', value, SHA-1 of the record or '',
--          '' or 'dead' followed by: reason, message, stderr, attempts, time,
--          time in ms, session id. The SHA-1 of a dead letter's record may be
--          '*', and is made here then
-- Reply    the reports' verdicts, in their order, with spaces between: one
--          string costs both sides less than a list
--
-- A report counts only while its delivery is in the run's in-flight hash; the
-- run need not be a member, for until somebody returned the record to the
-- queue its outcome is as good as ever. Whether a task was counted before is
-- decided by the sets of counted tasks and by nothing else: a completion that
-- already exists is no sign, since create_barrier clears the counter but not
-- old completions, and a counter that is absent is none either. A group has a
-- set for each day, kept for a day after its last task: with one set, a group
-- name that is used all the time would never let go of any.
--
-- Deliveries leave the in-flight hash last: should a command be refused before
-- (an ACL, say), the records are still there, and what was counted is not
-- counted again.
local KEEP, REPORTS = tonumber(ARGV[5]), tonumber(ARGV[6])
local DAY = math.floor(now() / KEEP)
local FIRST, LENGTH, DEAD_LENGTH = 8, 9, 16 -- where the reports begin, and how long one is
redis.call('HLEN', INFLIGHT)
redis.call('HLEN', ATTEMPTS)
redis.call('ZCARD', ATTEMPTS_AT)
redis.call('ZCARD', DEAD)

local function length(at)
  return ARGV[at + 8] == 'dead' and DEAD_LENGTH or LENGTH
end

-- Which deliveries are in flight? One HMGET costs a third of a HEXISTS for each,
-- but brings the records along: that is cheap where they are small.
local held = {} -- delivery → is it in flight?
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
      held[asked[n]] = record and true
    end
  end)
end

local verdicts, over, spent, values = {}, {}, {}, {}
local groups, order = {}, {}

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

-- look reads the four keys of a group. bad: one of them cannot be used as it
-- must be. expected is false where nobody waits. The lists name the tasks that
-- may count, the report of each and its completion; at finds a task in them.
local function look(id)
  local g = { id = id, barrier = P .. ':barrier:' .. id, completions = P .. ':completions:' .. id,
              today = S .. 'counted:' .. DAY .. ':' .. id, yesterday = S .. 'counted:' .. (DAY - 1) .. ':' .. id,
              at = {}, names = {}, tasks = {}, reports = {}, texts = {} }
  local expected = redis.pcall('GET', g.barrier .. ':expected')
  local counter = redis.pcall('GET', g.barrier)
  g.old = { redis.pcall('SCARD', g.today), redis.pcall('SCARD', g.yesterday) }
  g.bad = failed(expected) or failed(counter) or failed(g.old[1]) or failed(g.old[2])
      or failed(redis.pcall('HLEN', g.completions))
      or expected and not string.match(expected, '^-?%d+$')
      or counter and not (#counter < 18 and (counter == '0' or string.match(counter, '^-?[1-9]%d*$')))
  g.expected = not g.bad and expected and tonumber(expected)
  groups[id] = g
  order[#order + 1] = g
  return g
end

-- enlist puts a report on its group's list and gives the verdict that holds
-- unless the task turns out to have been counted before.
local function enlist(report, task, id, name, completion)
  if id == '' then
    return 'completed-no-group'
  end
  local g = groups[id] or look(id)
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

-- count moves a barrier; it is the one place that does.
local function count(g)
  local known = {}
  for i, set in ipairs({ g.today, g.yesterday }) do
    local n = 0
    in_parts(g.old[i] > 0 and g.names or {}, function(...)
      for _, is in ipairs(redis.call('SMISMEMBER', set, ...)) do
        n = n + 1
        known[n] = known[n] or is == 1
      end
    end)
  end
  local fields, new = {}, {}
  for n, name in ipairs(g.names) do
    if not known[n] then
      new[#new + 1] = name
      fields[2 * #new - 1], fields[2 * #new] = g.tasks[n], g.texts[n]
    elseif verdicts[g.reports[n]] == 'completed' then
      verdicts[g.reports[n]] = 'duplicate'
    end
  end
  if #new == 0 then
    return
  end
  in_parts(new, function(...) redis.call('SADD', g.today, ...) end)
  redis.call('PEXPIRE', g.today, KEEP)
  in_parts(fields, function(...) redis.call('HSET', g.completions, ...) end)
  if redis.call('INCRBY', g.barrier, #new) >= g.expected then
    redis.call('PUBLISH', P .. ':barrier_done:' .. g.id, 'complete')
  end
end

-- bury makes a dead letter of the record as it is in flight: it is not sent once
-- more, and may be one that the sidecar has never read whole.
local function bury(at)
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

-- What a delivery that is not in flight answers. A member's records are taken by no
-- other run: where a call is repeated, its first try was applied.
local not_held

local function decide(report, at)
  local delivery, task, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local ours = held[delivery]
  if ours == nil then
    ours = redis.call('HEXISTS', INFLIGHT, delivery) == 1
  end
  if not ours then
    not_held = not_held or (member(RUN) and 'late' or 'stale')
    return not_held
  end
  local verdict, sha = 'dead', ARGV[at + 7]
  if ARGV[at + 8] == 'dead' then
    sha = bury(at)
    if task ~= '' and id ~= '' then
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
  held[delivery] = false
  over[#over + 1] = delivery
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
  if #g.names > 0 then
    count(g)
  end
end
for report = 1, REPORTS do -- in their order: two may be for one key, and the later one stays
  local at = values[report]
  if at and (verdicts[report] == 'completed' or verdicts[report] == 'completed-no-group') then
    redis.call('SET', ARGV[at + 5], ARGV[at + 6])
  end
end
for _, sha in ipairs(spent) do
  forget_attempts(sha)
end
in_parts(over, function(...) redis.call('HDEL', INFLIGHT, ...) end)
return table.concat(verdicts, ' ')
