-- pause.lua has a run, or all of them, claim nothing more.
--
-- KEYS[1]  hash of what is paused
-- ARGV[5]  run, or * for all   ARGV[6]  who and when, as JSON
-- Reply    1
--
-- A script, so that it works while memory is full: that is when claims are to stop.
redis.call('HSET', KEYS[1], ARGV[5], ARGV[6])
return 1
