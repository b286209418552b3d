-- channel_set.lua writes a value and replaces a value of any type.
--
-- KEYS     as in channel.lua
-- ARGV     as in channel.lua; ARGV[6]  value; ARGV[7]  time to live, ms; 0 for none
-- Returns  {'ok', ''}, or a refusal of channel.lua
if ARGV[7] == '0' then
  redis.call('SET', KEY, ARGV[6])
else
  redis.call('SET', KEY, ARGV[6], 'PX', ARGV[7])
end
return answer('ok')
