-- order.lua tells a run to do something.
--
-- KEYS[1]  orders of the run
-- ARGV[5]  order, as JSON   ARGV[6]  how long it waits for the run, ms
-- Reply    1
--
-- A script, so that it works while memory is full.
redis.call('RPUSH', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
