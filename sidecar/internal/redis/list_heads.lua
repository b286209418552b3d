-- list_heads.lua reads the heads of elements of a list, one after another, until
-- enough bytes are read. It writes nothing, and stands without prelude.lua: a user
-- that may only read can run it.
--
-- KEYS[1]  list
-- ARGV[1]  index of the first element   ARGV[4]  most bytes of each element
-- ARGV[2]  1 or -1, to the next one     ARGV[5]  bytes of the reply at which it ends
-- ARGV[3]  most elements                ARGV[6]  bytes of whole elements likewise
-- Reply    for each element its length and its head
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
  if step < 0 and index >= 0 or step > 0 and index == 0 then
    break
  end
end
return heads
