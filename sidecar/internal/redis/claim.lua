-- claim.lua claims records in the order of the queue: it moves them from the run's
-- inbox, then from the queue, into the run's in-flight hash. Only claim.lua and
-- claim_routed.lua claim records.
--
-- KEYS     as in claiming.lua
-- ARGV     as in claiming.lua
-- Returns  as in claiming.lua
local before = previous_answer()
if before then
  return before
end

-- take moves records until the list is empty (true) or the claim is full (false).
-- It pops growing chunks, smaller ones where records are large, and pushes surplus
-- records back.
local function take(pop, push, list)
  local chunk = 1
  while #records < most do
    local got = redis.call(pop, list, math.min(chunk, most - #records))
    if not got then
      return true
    end
    for i, record in ipairs(got) do
      if bytes + #record > max_bytes and #records > 0 then
        for j = #got, i, -1 do
          redis.call(push, list, got[j])
        end
        return false
      end
      bytes = bytes + #record
      records[#records + 1] = record
    end
    chunk = math.max(1, math.min(2 * chunk, 16, math.floor((max_bytes - bytes) * #records / (bytes + 1))))
  end
  return false
end

if take('LPOP', 'LPUSH', INBOX) then
  take(POP, PUSH, QUEUE)
end
return commit()
