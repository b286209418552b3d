-- channel_push.lua adds a value to a list.
--
-- KEYS     as in channel.lua
-- ARGV     as in channel.lua; ARGV[6]  RPUSH or LPUSH; ARGV[7]  value;
--          ARGV[8]  time to live of the list, ms; 0 leaves it unchanged
-- Returns  {'ok', length of the list}, or a refusal of channel.lua
local length, refused = attempt(ARGV[6], KEY, ARGV[7])
if refused then
  return refused
end
if ARGV[8] ~= '0' then
  redis.call('PEXPIRE', KEY, ARGV[8])
end
return answer('ok', length)
