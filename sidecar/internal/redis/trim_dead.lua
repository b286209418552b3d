-- trim_dead.lua deletes the oldest dead letters: those above a number, and those of an
-- age.
--
-- KEYS[1]  the sorted set of dead letters
-- ARGV[5]  maximum number of dead letters, or 0 for any number
-- ARGV[6]  maximum age, ms, or 0 for any age
-- ARGV[7]  maximum number of letters that this call deletes
-- ARGV[8]  newest format that the caller knows, see format.lua
-- Returns  the letters that were deleted because of their number, and because of their
--          age. Error FORMAT for a caller that does not know the stored format
--
-- Letters have the time of the sidecar that wrote them, and Redis' clock tells their age.
-- The newest are kept. A repeated call after a lost reply continues where the first one
-- ended, so that its letters are not counted.
local refusal = unknown_format(ARGV[8])
if refusal then
  return refusal
end
redis.call('HLEN', CLOCK)
local most, age, chunk = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local function delete(ids)
  for _, id in ipairs(ids) do
    redis.call('DEL', DEAD .. ':' .. id)
    redis.call('ZREM', DEAD, id)
  end
  return #ids
end

local excess = most > 0 and redis.call('ZCARD', DEAD) - most or 0
local many, old = 0, 0
if excess > 0 then
  many = delete(redis.call('ZRANGE', DEAD, 0, math.min(excess, chunk) - 1))
end
if age > 0 then
  local _, clock = now()
  old = delete(redis.call('ZRANGEBYSCORE', DEAD, '-inf', clock - age, 'LIMIT', 0, chunk - many))
end
return { many, old }
