-- register.lua makes a run a member.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  newest format that the caller knows, see format.lua
-- ARGV[6…] former runs of the caller
-- Returns  1. Error FORMAT for a caller that does not know the stored format, and QUEUE
--          with the name of their queue while members of another queue are alive
--
-- A repeated call after a lost reply changes nothing more. If other sidecars have
-- reaped the run between the two calls, it leaves the gone list: it has claimed
-- nothing yet, and the inbox of a member must not be drained.
--
-- A prefix has one queue: a sidecar that takes over the records of another returns them
-- to its own queue. The key that names the queue is missing for P:queue, which is that of
-- the versions that do not know the key.
--
-- Former runs are ended here. A Redis that has forgotten a former run (FLUSHALL, an
-- empty failover) would otherwise never return the records that a BLMOVE has moved
-- into its inbox. A Redis whose database came back with that run as a member would
-- otherwise count its death.
local refusal = unknown_format(ARGV[5])
if refusal then
  return refusal
end
local SERVED = S .. 'queue'
local served = redis.call('GET', SERVED) or P .. ':queue'
if served ~= QUEUE then
  for _, run in ipairs(redis.call('SMEMBERS', RUNS)) do
    if redis.call('EXISTS', S .. 'alive:' .. run) == 1 then
      return redis.error_reply('QUEUE ' .. served)
    end
  end
end
redis.call('ZCARD', GONE)
redis.call('HLEN', CLOCK)
redis.call('HLEN', S .. 'paused')
if served ~= QUEUE then
  redis.call('SET', SERVED, QUEUE)
end
redis.call('HSET', META, 'format', ARGV[5])
redis.call('SADD', RUNS, RUN)
redis.call('ZREM', GONE, RUN)
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
for i = 6, #ARGV do
  if ARGV[i] ~= RUN then
    end_run(ARGV[i], 'clean', 0)
  end
end
return 1
