-- command.lua appends a command for a run.
--
-- KEYS[1]  list of commands of the run (P:sidecar:orders:{run})
-- ARGV[5]  command, as JSON
-- ARGV[6]  time to live of the list, ms
-- Returns  1
--
-- It is a script so that it works while Redis' memory is full.
redis.call('RPUSH', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
