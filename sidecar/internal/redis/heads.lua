-- heads.lua reads parts of fields of a hash. It writes nothing, and stands
-- without prelude.lua: a user that may only read can run it.
--
-- KEYS[1]  hash
-- ARGV[1]  first byte to read, from 1   ARGV[2]  most bytes of each field
-- ARGV[3…] fields
-- Reply    for each field its length and the bytes read; nil for none
local from, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local heads = {}
for i = 3, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  heads[i - 2] = value and { #value, string.sub(value, from, from + most - 1) }
end
return heads
