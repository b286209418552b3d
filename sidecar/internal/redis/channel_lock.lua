-- channel_lock.lua acquires a free lock in the format of redis-py's Lock.
--
-- KEYS     as in channel.lua
-- ARGV     as in channel.lua; ARGV[6]  token; ARGV[7]  time to live of the lock, ms
-- Returns  {'ok', 1} if the lock was acquired, {'ok', 0} if it is held by another
--          token, or a refusal of channel.lua
local taken = redis.call('SET', KEY, ARGV[6], 'NX', 'PX', ARGV[7])
return answer('ok', taken and 1 or 0)
