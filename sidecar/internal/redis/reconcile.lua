-- reconcile.lua requeues the deliveries of a run that the run does not know.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  maximum number of records
-- ARGV[6]  maximum number of bytes
-- ARGV[7]  highest sequence number that the run has seen; deliveries above it stay,
--          except adopted ones
-- ARGV[8…] deliveries that the run knows
-- Returns  number of requeued records; 1 if nothing is left, else 0. Error GONE for a
--          run that is not a member
--
-- A failover or a restart can restore deliveries that had ended, and the reply to a
-- reap that adopted records may be lost. Such deliveries return to the head of the
-- queue at no cost. A claim may be outstanding: its deliveries have numbers that the
-- run has not seen yet, and the repeated call returns them.
if not member(RUN) then
  return gone()
end
check_types()
local most, max_bytes, seen = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local known = {}
for i = 8, #ARGV do
  known[ARGV[i]] = true
end
local unknown = {}
for _, delivery in ipairs(redis.call('HKEYS', INFLIGHT)) do
  local seq = sequence(delivery)
  if not known[delivery] and (seq <= seen or seq > 2 ^ 40) then
    unknown[#unknown + 1] = delivery
  end
end
local returned, bytes = 0, 0
for _, delivery in ipairs(descending(unknown)) do
  if returned >= most or bytes >= max_bytes then
    break
  end
  local record = redis.call('HGET', INFLIGHT, delivery)
  redis.call(PUSH, QUEUE, record)
  redis.call('HDEL', INFLIGHT, delivery)
  returned, bytes = returned + 1, bytes + #record
end
return { returned, returned == #unknown and 1 or 0 }
