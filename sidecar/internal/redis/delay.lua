-- delay.lua delays deliveries until they are due.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  number of deliveries; then for each: delivery, ms from now, mode ('',
--          'count' or 'isolate'), SHA-1 of the record or ''
-- Returns  for each delivery 1, or 0 if it was not in flight
--
-- A sorted set holds the delivery ids and a hash the records, because two identical
-- records would be one member of a set. Times are by Redis' clock.
--
-- Mode 'isolate' is for a record that must run alone in a sidecar and could not.
-- take_isolated.lua gives it to an idle sidecar. Without one, the record runs beside
-- others when it is due: its cause becomes 'beside' instead of 'run'. Each shared
-- loss at the last attempt doubles the delay, up to ten minutes, so that a record
-- that kills its sidecar each time leaves other tasks time to end. A record without
-- attempts is due at once.
check_types()
redis.call('ZCARD', DELAYED)
redis.call('HLEN', DELAYED_RECORDS)
redis.call('ZCARD', ISOLATED)
local NOW = now()
local reply = {}
local at = 5
local function arg()
  at = at + 1
  return ARGV[at]
end
for i = 1, tonumber(ARGV[5]) do
  local delivery, after, mode, sha = arg(), tonumber(arg()), arg(), arg()
  local record = redis.call('HGET', INFLIGHT, delivery)
  reply[i] = 0
  if record then
    if mode ~= '' then
      sha = sha ~= '' and sha or redis.sha1hex(record)
      local count, cause, shared_losses, unread = attempts(sha)
      if mode == 'count' then
        set_attempts(sha, count + 1, 'delay')
      elseif cause == '' then
        after = 0
      else
        after = math.min(after * 2 ^ math.min(shared_losses, 10), 600000)
        set_attempts(sha, count, 'beside', shared_losses, unread)
        redis.call('ZADD', ISOLATED, NOW + after, delivery)
      end
    end
    redis.call('HSET', DELAYED_RECORDS, delivery, record)
    redis.call('ZADD', DELAYED, NOW + after, delivery)
    redis.call('HDEL', INFLIGHT, delivery)
    reply[i] = 1
  end
end
return reply
