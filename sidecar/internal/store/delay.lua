-- delay.lua puts deliveries aside until they are due.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  number of deliveries; then for each: delivery, ms from now, '' or
--          'count', SHA-1 of the record or ''
-- Reply    for each delivery 1, or 0 if it was not in flight
--
-- The sorted set holds delivery ids and a hash the records: two identical
-- records would be one member of a set. Times are Redis' own.
check_types()
redis.call('ZCARD', DELAYED)
redis.call('HLEN', DELAYED_RECORDS)
local NOW = now()
local reply = {}
local at = 5
local function arg()
  at = at + 1
  return ARGV[at]
end
for i = 1, tonumber(ARGV[5]) do
  local delivery, after, counts, sha = arg(), tonumber(arg()), arg() == 'count', arg()
  local record = redis.call('HGET', INFLIGHT, delivery)
  reply[i] = 0
  if record then
    if counts then
      sha = sha ~= '' and sha or redis.sha1hex(record)
      set_attempts(sha, attempts(sha) + 1, 'delay')
    end
    redis.call('HSET', DELAYED_RECORDS, delivery, record)
    redis.call('ZADD', DELAYED, NOW + after, delivery)
    redis.call('HDEL', INFLIGHT, delivery)
    reply[i] = 1
  end
end
return reply
