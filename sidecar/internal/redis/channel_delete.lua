-- channel_delete.lua removes a key, whatever it holds.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua
-- Reply    'ok' and how many keys that were
return answer('ok', redis.call('DEL', KEY))
