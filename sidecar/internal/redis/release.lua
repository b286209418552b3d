-- release.lua requeues deliveries at the end of the queue that records are claimed
-- from.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  number of deliveries, in descending sequence; then for each: delivery;
--          loss: '', 'lost' (its worker died) or 'unread' (its worker died before it
--          read the record); sharing of the loss: '', 'child' (with tasks of the same
--          process) or 'run' (with other processes); maximum number of attempts;
--          SHA-1 of the record or ''
-- Returns  for each delivery a verdict and its used attempts. Verdicts:
--          'not-in-flight'; 'returned'; 'counted': returned, and an unread loss has
--          used an attempt; 'exhausted'
--
-- An exhausted record stays in flight: the caller ends it with a dead report. If the
-- caller dies first, the reaper finds the count and ends it. The count stays at the
-- limit, so a repeated call returns the same.
check_types()
local reply = {}
local at = 5
local function arg()
  at = at + 1
  return ARGV[at]
end
for _ = 1, tonumber(ARGV[5]) do
  local delivery, loss, sharing, max_attempts, sha = arg(), arg(), arg(), tonumber(arg()), arg()
  local record = redis.call('HGET', INFLIGHT, delivery)
  local verdict, count, exhausted, counted = 'not-in-flight', 0, false, false
  if record then
    if loss ~= '' then
      local rule = loss == 'lost' and record_loss or record_unread_loss
      local cause = sharing == 'run' and 'run' or 'child'
      count, exhausted, counted = rule(sha ~= '' and sha or redis.sha1hex(record), max_attempts, sharing ~= '', cause)
    end
    if exhausted then
      verdict = 'exhausted'
    else
      redis.call(PUSH, QUEUE, record)
      redis.call('HDEL', INFLIGHT, delivery)
      verdict = counted and 'counted' or 'returned'
    end
  end
  reply[#reply + 1] = verdict
  reply[#reply + 1] = count
end
return reply
