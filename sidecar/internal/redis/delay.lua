-- delay.lua puts deliveries aside until they are due.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  number of deliveries; then for each: delivery, ms from now, '',
--          'count' or 'isolate', SHA-1 of the record or ''
-- Reply    for each delivery 1, or 0 if it was not in flight
--
-- The sorted set holds delivery ids and a hash the records: two identical
-- records would be one member of a set. Times are Redis' own.
--
-- An isolated record must run alone in a sidecar, and could not where it was
-- claimed. take_isolated.lua hands it to a sidecar that is idle. When it is due,
-- without such a sidecar, it runs beside others: the cause of its last attempt is no
-- death of a run any more. Each death that it shared at its last attempt doubles the
-- time, up to ten minutes: a record that ends its sidecar each time leaves the tasks
-- beside it longer and longer to end. A record without attempts need not be alone.
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
  local delivery, after, how, sha = arg(), tonumber(arg()), arg(), arg()
  local record = redis.call('HGET', INFLIGHT, delivery)
  reply[i] = 0
  if record then
    if how ~= '' then
      sha = sha ~= '' and sha or redis.sha1hex(record)
      local count, cause, company, unread = attempts(sha)
      if how == 'count' then
        set_attempts(sha, count + 1, 'delay')
      elseif cause == '' then
        after = 0
      else
        after = math.min(after * 2 ^ math.min(company, 10), 600000)
        set_attempts(sha, count, 'beside', company, unread)
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
