-- channel_unlock.lua frees a lock as redis-py's Lock does, if it is still that of
-- the token.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua; ARGV[6]  token
-- Reply    'ok' and 1 if it was, else 0
local token, refused = attempt('GET', KEY)
if refused then
  return refused
end
if token ~= ARGV[6] then
  return answer('ok', 0)
end
return answer('ok', redis.call('DEL', KEY))
