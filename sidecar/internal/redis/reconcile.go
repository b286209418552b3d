package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed reconcile.lua
var reconcileLua string
var reconcileScript = script(reconcileLua)

// Reconcile compares the run's in-flight hash with what the caller holds and
// hands unknown deliveries back at no cost: those that a failover or a restart
// of Redis brought back after they were over. Of the run's own claims it looks
// at sequence numbers up to seen only. held must have every delivery up to
// there that is not over, and those that [Store.Reap] adopted; a claim may be
// outstanding, and the call may reach Redis late. It returns how many records
// went back, also with an error, and [ErrGone] for a run that is no member.
func (s *Store) Reconcile(ctx context.Context, run string, seen int64, held []string) (int, error) {
	args := make([]any, 0, 3+len(held))
	args = append(args, chunkRecords, s.o.MaxClaimBytes, seen)
	for _, id := range held {
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
