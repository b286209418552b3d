-- register.lua makes a run a member.
--
-- KEYS[1]  alive key of the run
-- ARGV[5…] runs that the caller had before this one
-- Reply    1
--
-- A retry after a lost reply changes nothing more. If a long outage lay
-- between the two and others have reaped the run meanwhile, it is taken off
-- the gone list again: it has claimed nothing yet, and a member's inbox must
-- not be drained.
--
-- A Redis that has forgotten the caller's last run (FLUSHALL, an empty failover) knows
-- nothing of what a BLMOVE has moved into that run's inbox since. One that still has
-- it as a member, since the database came back, would take it for dead in a while.
redis.call('ZCARD', GONE)
redis.call('HLEN', CLOCK)
redis.call('HLEN', S .. 'paused')
redis.call('SADD', RUNS, RUN)
redis.call('ZREM', GONE, RUN)
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
for i = 5, #ARGV do
  if ARGV[i] ~= RUN then
    end_run(ARGV[i], 'clean', 0)
  end
end
return 1
