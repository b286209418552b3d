-- pause.lua pauses the claims of one run or of all runs.
--
-- KEYS[1]  hash of the paused runs
-- ARGV[5]  run, or * for all
-- ARGV[6]  author and time of the pause, as JSON
-- Returns  1
--
-- It is a script so that it works while Redis' memory is full, which is a reason to
-- pause.
redis.call('HSET', KEYS[1], ARGV[5], ARGV[6])
return 1
