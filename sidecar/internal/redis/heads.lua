-- heads.lua reads parts of the fields of a hash. It writes nothing and runs without
-- prelude.lua, so that a read-only Redis user can run it.
--
-- KEYS[1]  hash
-- ARGV[1]  first byte to read, from 1
-- ARGV[2]  maximum number of bytes of each field
-- ARGV[3…] fields
-- Returns  for each field {length, bytes}; nil for a missing field
local from, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local heads = {}
for i = 3, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  heads[i - 2] = value and { #value, string.sub(value, from, from + most - 1) }
end
return heads
