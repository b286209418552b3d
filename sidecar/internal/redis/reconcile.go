package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed reconcile.lua
var reconcileLua string
var reconcileScript = script(reconcileLua)

// Reconcile requeues deliveries that are in the run's in-flight hash and unknown to the
// caller, at no cost: a failover or a restart of Redis can restore deliveries that had
// ended. Of the run's own claims it considers sequence numbers up to maxSeq only. known
// must contain every delivery up to there that has not ended, and those that [Store.Reap]
// adopted. A claim may be outstanding, and the call may reach Redis late. Reconcile
// returns the number of requeued records, also with an error, and [ErrGone] for a run
// that is not a member.
func (s *Store) Reconcile(ctx context.Context, run string, maxSeq int64, known []string) (int, error) {
	args := make([]any, 0, 3+len(known))
	args = append(args, chunkRecords, s.o.MaxClaimBytes, maxSeq)
	for _, id := range known {
		args = append(args, id)
	}
	total := 0
	for done := int64(0); done == 0; {
		reply, err := s.call(ctx, reconcileScript, run, s.keys.inflight(run), args...).Int64Slice()
		if err != nil {
			return total, failure("reconcile", err)
		}
		if len(reply) != 2 {
			return total, failure("reconcile", errReply)
		}
		total += int(reply[0])
		done = reply[1]
	}
	return total, nil
}
