-- renew.lua lengthens a run's lease.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  what the run says of itself, JSON, or ''
-- ARGV[6]  host:run, for the set that Graflow's README tells people to look at
-- Reply    1 if the lease still stood, 0 if it had run out and was made anew;
--          error GONE for a run that is no member
--
-- Membership is the truth and the alive key only a timer: a key that ran out
-- (an outage longer than the lease) is no reason to give a member up.
if not member(RUN) then
  return gone()
end
if LEASED == 0 then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
end
if ARGV[5] ~= '' then
  redis.call('SET', S .. 'info:' .. RUN, ARGV[5], 'PX', ARGV[3])
  -- The set is Graflow's to name and anybody's to use: what else lies there is no
  -- reason to give up a lease.
  local known = redis.pcall('SADD', P .. ':workers', ARGV[6])
  if known == 1 then
    redis.call('HSET', META, 'worker', ARGV[6]) -- whoever ends the run takes it out
  end
end
return LEASED
