-- release.lua hands deliveries back to the end of the queue that is taken from.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  number of deliveries, in descending sequence; then for each:
--          delivery, '', 'lost' or 'unread' (by a worker that died), '' or with
--          whom ('child': others in its child, 'run': other children, too), most
--          attempts, SHA-1 of the record or ''
-- Reply    for each delivery: late, returned, counted (an unread one that is
--          returned and has used up an attempt) or exhausted; attempts used up
--
-- An exhausted record is not requeued but stays in flight: the caller ends it
-- with a dead report, and if the caller dies first its reaper finds the count
-- and does so. The count stays at the limit, so a retry answers the same.
check_types()
local reply = {}
local at = 5
local function arg()
  at = at + 1
  return ARGV[at]
end
for _ = 1, tonumber(ARGV[5]) do
  local delivery, how, company, most, sha = arg(), arg(), arg(), tonumber(arg()), arg()
  local record = redis.call('HGET', INFLIGHT, delivery)
  local outcome, count, exhausted, counted = 'late', 0, false, false
  if record then
    if how ~= '' then
      local rule = how == 'lost' and lose or miss
      count, exhausted, counted = rule(sha ~= '' and sha or redis.sha1hex(record), most, company ~= '', company == 'run' and 'run' or 'child')
    end
    if exhausted then
      outcome = 'exhausted'
    else
      redis.call(PUSH, QUEUE, record)
      redis.call('HDEL', INFLIGHT, delivery)
      outcome = counted and 'counted' or 'returned'
    end
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = count
end
return reply
