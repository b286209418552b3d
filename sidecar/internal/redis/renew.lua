-- renew.lua renews the lease of a run.
--
-- KEYS[1]  alive key of the run
-- ARGV[5]  description of the run, JSON, or ''
-- ARGV[6]  host:run, the entry in the set of workers that Graflow's README documents
-- Returns  1 if the lease was valid, 0 if it had expired and was created again. Error
--          GONE for a run that is not a member
--
-- Membership decides, and the alive key is only a timer: an expired key, as after an
-- outage longer than the lease, does not end a member.
if not member(RUN) then
  return gone()
end
renew(ARGV[5], ARGV[6])
return LEASED
