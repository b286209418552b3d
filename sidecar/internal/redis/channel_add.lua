-- channel_add.lua adds to a number.
--
-- KEYS     as in channel.lua
-- ARGV     as in channel.lua; ARGV[6]  amount
-- Returns  {'ok', sum}, or a refusal of channel.lua
local sum, refused = attempt('INCRBYFLOAT', KEY, ARGV[6])
return refused or answer('ok', sum)
