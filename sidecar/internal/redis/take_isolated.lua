-- take_isolated.lua brings one record that must run alone in a sidecar into the
-- inbox of a run that is idle, from where the claim of the same turn takes it.
--
-- KEYS[1]  inbox of the run
-- ARGV[5]  turn of that claim
-- ARGV[6]  most bytes of records that are looked at, but at least a record
-- ARGV[7]  the patterns of the run's kinds, one a line; '' for one that takes
--          every task
-- ARGV[8…] free slots of each kind
-- Reply    1 if there is a record in the inbox now, else 0; error GONE for a run
--          that is no member
--
-- The next attempt is the one that counts again: the record is alone.
--
-- It may be called again after a lost reply, and arrive when its caller has gone
-- on. In the first case the record is in the inbox already; in the second the claim
-- of its turn was made, and a record would lie in the inbox until the next one,
-- which a sidecar with a long task does not make.
if not member(RUN) then
  return gone()
end
check_types()
redis.call('ZCARD', DELAYED)
redis.call('HLEN', DELAYED_RECORDS)
redis.call('ZCARD', ISOLATED)
if redis.call('LLEN', KEYS[1]) > 0 then
  return 1
end
if (tonumber(redis.call('HGET', META, 'turn')) or 0) >= tonumber(ARGV[5]) then
  return 0
end

local patterns, bytes = compile_all(ARGV[7]), 0

-- takes: a kind of the run that has a free slot takes the record, or may.
local function takes(record)
  local k = #patterns > 0 and kind(patterns, record) or 0
  return k == 0 or k > 0 and tonumber(ARGV[7 + k]) > 0
end

for _, delivery in ipairs(redis.call('ZRANGE', ISOLATED, 0, 15)) do
  local record = redis.call('HGET', DELAYED_RECORDS, delivery)
  if not record then
    redis.call('ZREM', ISOLATED, delivery) -- it fell due, with an earlier version
  elseif takes(record) then
    local sha = redis.sha1hex(record)
    local count, cause, company, unread = attempts(sha)
    if cause == 'beside' then
      set_attempts(sha, count, 'run', company, unread)
    end
    redis.call('RPUSH', KEYS[1], record)
    redis.call('ZREM', ISOLATED, delivery)
    redis.call('ZREM', DELAYED, delivery)
    redis.call('HDEL', DELAYED_RECORDS, delivery)
    return 1
  end
  bytes = bytes + (record and #record or 0)
  if bytes >= tonumber(ARGV[6]) then
    break
  end
end
return 0
