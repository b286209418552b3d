-- channel_lock.lua takes a lock as redis-py's Lock does, if it is free.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua; ARGV[6]  token; ARGV[7]  ms until
--          it is free again
-- Reply    'ok' and 1 if it is ours now, else 0
local taken = redis.call('SET', KEY, ARGV[6], 'NX', 'PX', ARGV[7])
return answer('ok', taken and 1 or 0)
