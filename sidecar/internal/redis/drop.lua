-- drop.lua deletes a dead letter.
--
-- KEYS[1]  the dead letter
-- ARGV[5]  its delivery id
-- Returns  1, or 0 if there was none
redis.call('ZCARD', DEAD)
local had = redis.call('DEL', KEYS[1])
return math.max(had, redis.call('ZREM', DEAD, ARGV[5]))
