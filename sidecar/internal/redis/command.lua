-- command.lua appends a command for a run.
--
-- KEYS[1]  list of commands of the run (P:sidecar:orders:{run})
-- ARGV[5]  command, as JSON
-- ARGV[6]  time to live of the list, ms
-- ARGV[7]  newest format that the caller knows, see format.lua
-- Returns  1. Error FORMAT for a caller that does not know the stored format
--
-- It is a script so that it works while Redis' memory is full.
local refusal = unknown_format(ARGV[7])
if refusal then
  return refusal
end
redis.call('RPUSH', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
