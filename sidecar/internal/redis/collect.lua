-- collect.lua moves unrouted records into the inbox of a run that takes every task.
--
-- KEYS[1]  inbox of the run
-- ARGV[5]  maximum number of records
-- ARGV[6]  maximum number of bytes; a first record may exceed it
-- Returns  number of records moved. Error GONE for a run that is not a member
if not member(RUN) then
  return gone()
end
redis.call('LLEN', KEYS[1])
local n, bytes, max_bytes = 0, 0, tonumber(ARGV[6])
while n < tonumber(ARGV[5]) and bytes < max_bytes do
  local entry = redis.call('LPOP', UNROUTED)
  if not entry then
    break
  end
  local _, record = unstamped(entry)
  redis.call('RPUSH', KEYS[1], record)
  n, bytes = n + 1, bytes + #record
end
return n
