-- retire.lua is the one step in which a run dies or leaves: from then on it is
-- no member, its claims are refused, and its records are to be returned by
-- reap.lua.
--
-- KEYS[1]  in-flight hash of the run that ends
-- ARGV[5]  the run that ends    ARGV[6]  dead or clean
-- Reply    1 if the run is no member (any more), 0 if it is alive after all;
--          error GONE if the caller, reaping, is no member itself
--
-- How many deliveries the run held is written down here, for reap.lua works in
-- chunks and must know whether the death was shared. What was asked of the run
-- and what it said of itself go with it. The gone list keeps the
-- id for an hour (tick.lua).
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
local held = usable('HLEN', KEYS[1]) and redis.call('HLEN', KEYS[1]) or 0
local before = tonumber(redis.call('HGET', meta_of(VICTIM), 'held')) or 0
redis.call('HLEN', CLOCK)
end_run(VICTIM, MODE, math.max(held, before))
return 1
