-- retire.lua ends a run, by death or by leaving, in one step: afterwards it is not a
-- member, its claims are refused, and reap.lua requeues its records.
--
-- KEYS[1]  in-flight hash of the run that ends
-- ARGV[5]  the run that ends
-- ARGV[6]  'dead' or 'clean'
-- Returns  1 if the run is not a member, 0 if it is alive. Error GONE if the mode is
--          'dead' and the caller is not a member
--
-- The number of deliveries in flight is stored here, because reap.lua works in chunks
-- and must know whether the loss is shared. The commands for the run and its description
-- are deleted. The gone list keeps the id for an hour (tick.lua).
local VICTIM, MODE = ARGV[5], ARGV[6]
if MODE == 'dead' then
  if not member(RUN) then
    return gone()
  end
  if member(VICTIM) and redis.call('EXISTS', S .. 'alive:' .. VICTIM) == 1 then
    return 0
  end
end
redis.call('ZCARD', GONE)
redis.call('HLEN', S .. 'paused')
local in_flight = usable('HLEN', KEYS[1]) and redis.call('HLEN', KEYS[1]) or 0
local before = tonumber(redis.call('HGET', meta_of(VICTIM), 'held')) or 0
redis.call('HLEN', CLOCK)
end_run(VICTIM, MODE, math.max(in_flight, before))
return 1
