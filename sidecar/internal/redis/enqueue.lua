-- enqueue.lua adds a record to the tail of the queue, as Graflow's enqueue does.
--
-- KEYS     as in channel.lua; KEYS[3] is the queue
-- ARGV     as in channel.lua; ARGV[6]  record
-- Returns  {'ok', ''}, or a refusal of channel.lua
redis.call('RPUSH', KEY, ARGV[6])
return answer('ok')
