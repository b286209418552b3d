-- channel_unlock.lua releases a lock of redis-py's format if the token holds it.
--
-- KEYS     as in channel.lua
-- ARGV     as in channel.lua; ARGV[6]  token
-- Returns  {'ok', 1} if the lock was released, {'ok', 0} if the token does not hold
--          it, or a refusal of channel.lua
local token, refused = attempt('GET', KEY)
if refused then
  return refused
end
if token ~= ARGV[6] then
  return answer('ok', 0)
end
return answer('ok', redis.call('DEL', KEY))
