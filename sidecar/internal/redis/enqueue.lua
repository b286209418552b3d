-- enqueue.lua adds a record to the tail of the queue, as Graflow's enqueue does.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua, KEYS[3] being the queue;
-- ARGV[6]  record
-- Reply    'ok'
redis.call('RPUSH', KEY, ARGV[6])
return answer('ok')
