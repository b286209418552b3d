-- channel_delete.lua removes a key of any type.
--
-- KEYS     as in channel.lua
-- ARGV     as in channel.lua
-- Returns  {'ok', number of removed keys}, or a refusal of channel.lua
return answer('ok', redis.call('DEL', KEY))
