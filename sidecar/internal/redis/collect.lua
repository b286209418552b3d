-- collect.lua brings unrouted records into the inbox of a run that takes
-- everything.
--
-- KEYS[1]  inbox of the run
-- ARGV[5]  most records   ARGV[6]  most bytes, but at least a record
-- Reply    how many; error GONE for a run that is no member
if not member(RUN) then
  return gone()
end
redis.call('LLEN', KEYS[1])
local n, bytes, room = 0, 0, tonumber(ARGV[6])
while n < tonumber(ARGV[5]) and bytes < room do
  local entry = redis.call('LPOP', UNROUTED)
  if not entry then
    break
  end
  local _, record = unstamped(entry)
  redis.call('RPUSH', KEYS[1], record)
  n, bytes = n + 1, bytes + #record
end
return n
