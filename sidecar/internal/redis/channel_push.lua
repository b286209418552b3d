-- channel_push.lua adds a value to a list.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua; ARGV[6]  RPUSH or LPUSH;
-- ARGV[7]  value; ARGV[8]  ms until the list expires, 0 to leave that as it is
-- Reply    'ok' and the length
local length, refused = attempt(ARGV[6], KEY, ARGV[7])
if refused then
  return refused
end
if ARGV[8] ~= '0' then
  redis.call('PEXPIRE', KEY, ARGV[8])
end
return answer('ok', length)
