-- drop.lua deletes a dead letter.
--
-- KEYS[1]  the dead letter
-- ARGV[5]  its delivery id
-- ARGV[6]  newest format that the caller knows, see format.lua
-- Returns  1, or 0 if there was none. Error FORMAT for a caller that does not know the
--          stored format
local refusal = unknown_format(ARGV[6])
if refusal then
  return refusal
end
redis.call('ZCARD', DEAD)
local had = redis.call('DEL', KEYS[1])
return math.max(had, redis.call('ZREM', DEAD, ARGV[5]))
