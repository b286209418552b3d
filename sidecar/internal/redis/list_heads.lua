-- list_heads.lua reads the heads of successive elements of a list, up to byte limits.
-- It writes nothing and runs without prelude.lua, so that a read-only Redis user can
-- run it.
--
-- KEYS[1]  list
-- ARGV[1]  index of the first element, from 0 up or from -1 down
-- ARGV[2]  step to the next element: 1, or -1 from -1 down
-- ARGV[3]  maximum number of elements
-- ARGV[4]  maximum number of bytes of each element
-- ARGV[5]  bytes of the reply at which reading ends
-- ARGV[6]  bytes of whole elements at which reading ends
-- Returns  for each element {length, head}
local index, step, head = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local heads, sent, read = {}, 0, 0
while #heads < tonumber(ARGV[3]) and sent < tonumber(ARGV[5]) and read < tonumber(ARGV[6]) do
  local element = redis.call('LRANGE', KEYS[1], index, index)[1]
  if not element then
    break
  end
  heads[#heads + 1] = { #element, string.sub(element, 1, head) }
  sent, read = sent + math.min(#element, head), read + #element
  index = index + step
end
return heads
