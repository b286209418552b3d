-- register.lua makes a run a member.
--
-- KEYS[1]  alive key of the run
-- ARGV     as in prelude.lua
-- Reply    1
--
-- A retry after a lost reply changes nothing more. If a long outage lay
-- between the two and others have reaped the run meanwhile, it is taken off
-- the gone list again: it has claimed nothing yet, and a member's inbox must
-- not be drained.
redis.call('ZCARD', GONE)
redis.call('SADD', RUNS, RUN)
redis.call('ZREM', GONE, RUN)
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
return 1
