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
renew(ARGV[5], ARGV[6])
return LEASED
