-- reconcile.lua returns a run's deliveries that the run does not know.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  most records   ARGV[7]   sequence numbers above this one are left
-- ARGV[6]  most bytes               alone, adopted ones excepted
--                         ARGV[8…]  deliveries that the run knows
-- Reply    records returned; 1 if all is done, else 0; error GONE for a run
--          that is no member
--
-- A failover or a restart can bring deliveries back that were over, and the
-- reply to a reap that adopted some may be lost. They go to the head of the
-- queue at no cost. A claim may be outstanding: what it took has numbers that
-- the caller has not seen yet, and its retry will bring them.
if not member(RUN) then
  return gone()
end
check_types()
local most, room, seen = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local held = {}
for i = 8, #ARGV do
  held[ARGV[i]] = true
end
local unknown = {}
for _, delivery in ipairs(redis.call('HKEYS', INFLIGHT)) do
  local seq = sequence(delivery)
  if not held[delivery] and (seq <= seen or seq > 2 ^ 40) then
    unknown[#unknown + 1] = delivery
  end
end
local returned, bytes = 0, 0
for _, delivery in ipairs(descending(unknown)) do
  if returned >= most or bytes >= room then
    break
  end
  local record = redis.call('HGET', INFLIGHT, delivery)
  redis.call(PUSH, QUEUE, record)
  redis.call('HDEL', INFLIGHT, delivery)
  returned, bytes = returned + 1, bytes + #record
end
return { returned, returned == #unknown and 1 or 0 }
