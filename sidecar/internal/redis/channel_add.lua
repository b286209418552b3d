-- channel_add.lua adds to a number.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua; ARGV[6]  amount
-- Reply    'ok' and the sum
local sum, refused = attempt('INCRBYFLOAT', KEY, ARGV[6])
return refused or answer('ok', sum)
