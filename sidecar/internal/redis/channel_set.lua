-- channel_set.lua writes a value, whatever was there.
--
-- KEYS[1]… and ARGV[1]… as in channel.lua; ARGV[6]  value; ARGV[7]  ms, 0 for ever
-- Reply    'ok'
if ARGV[7] == '0' then
  redis.call('SET', KEY, ARGV[6])
else
  redis.call('SET', KEY, ARGV[6], 'PX', ARGV[7])
end
return answer('ok')
