-- take_isolated.lua moves one record that must run alone in a sidecar into the inbox of
-- an idle run. The claim of the same turn takes it from there.
--
-- KEYS[1]  inbox of the run
-- ARGV[5]  turn of that claim
-- ARGV[6]  maximum number of bytes of examined records; a first record may exceed it
-- ARGV[7]  the patterns of the run's kinds, one a line; '' for a run that takes every
--          task
-- ARGV[8…] free slots of each kind
-- Returns  1 if the inbox has a record now, else 0. Error GONE for a run that is not a
--          member
--
-- The cause 'beside' becomes 'run' again: the record runs alone, so the next loss counts.
--
-- A repeated call after a lost reply finds the record in the inbox. A call that arrives
-- after the claim of its turn moves nothing: the record would otherwise stay in the inbox
-- until the next claim, which a sidecar with a long task does not make.
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

-- has_slot reports whether a kind of the run that may match the record has a free slot.
local function has_slot(record)
  local k = #patterns > 0 and kind(patterns, record) or 0
  return k == 0 or k > 0 and tonumber(ARGV[7 + k]) > 0
end

for _, delivery in ipairs(redis.call('ZRANGE', ISOLATED, 0, 15)) do
  local record = redis.call('HGET', DELAYED_RECORDS, delivery)
  if not record then
    redis.call('ZREM', ISOLATED, delivery) -- promoted by an earlier version
  elseif has_slot(record) then
    local sha = redis.sha1hex(record)
    local count, cause, shared_losses, unread = attempts(sha)
    if cause == 'beside' then
      set_attempts(sha, count, 'run', shared_losses, unread)
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
