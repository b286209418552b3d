-- claim.lua and claim_routed.lua are the only places where a record becomes a
-- run's own. Here records move from the run's inbox, then from the queue, into
-- its in-flight hash.
--
-- KEYS[1], ARGV and Reply are those of claiming.lua
local before = earlier()
if before then
  return before
end

-- take moves records until the list is empty (true) or the claim is full. It
-- takes a growing handful at a time, and fewer where records are large: what
-- turns out too much goes back.
local function take(pop, push, list)
  local hand = 1
  while #records < most do
    local got = redis.call(pop, list, math.min(hand, most - #records))
    if not got then
      return true
    end
    for i, record in ipairs(got) do
      if bytes + #record > room and #records > 0 then
        for j = #got, i, -1 do
          redis.call(push, list, got[j])
        end
        return false
      end
      bytes = bytes + #record
      records[#records + 1] = record
    end
    hand = math.max(1, math.min(2 * hand, 16, math.floor((room - bytes) * #records / (bytes + 1))))
  end
  return false
end

if take('LPOP', 'LPUSH', INBOX) then
  take(POP, PUSH, QUEUE)
end
return own()
