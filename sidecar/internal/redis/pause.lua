-- pause.lua pauses the claims of one run or of all runs, or ends such a pause.
--
-- KEYS[1]  hash of the paused runs
-- ARGV[5]  run, or * for all
-- ARGV[6]  author and time of the pause, as JSON; '' ends the pause
-- ARGV[7]  newest format that the caller knows, see format.lua
-- Returns  1. Error FORMAT for a caller that does not know the stored format
--
-- It is a script so that it works while Redis' memory is full, which is a reason to
-- pause.
local refusal = unknown_format(ARGV[7])
if refusal then
  return refusal
end
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[1], ARGV[5])
else
  redis.call('HSET', KEYS[1], ARGV[5], ARGV[6])
end
return 1
