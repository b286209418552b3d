package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed take_isolated.lua
var takeIsolatedLua string
var takeIsolatedScript = routing(takeIsolatedLua)

// TakeIsolated moves one isolated record (see [Delay]) into the run's inbox. A later
// claim with the same nonce takes it, and the record must then run alone in the sidecar.
// d has the patterns and free slots of the run's kinds of worker; it is empty for a run
// that takes every task. TakeIsolated reports whether a record is in the inbox. After an
// error the call may be repeated or skipped. It returns [ErrGone] for a run that is not a
// member.
func (s *Store) TakeIsolated(ctx context.Context, run, nonce string, d KindDemand) (bool, error) {
	args := append([]any{s.turn(run, nonce).n, s.o.MaxClaimBytes, d.patterns()}, d.free()...)
	took, err := s.call(ctx, takeIsolatedScript, run, s.keys.inbox(run), args...).Bool()
	return took, failure("take isolated", err)
}

//go:embed delay.lua
var delayLua string
var delayScript = script(delayLua)

// Delay delays deliveries. When they are due, the [Store.Tick] of some sidecar requeues
// their records. The result tells for each delivery whether it was in flight; false for a
// repeated call also means that the first call was applied. The run need not be a member.
func (s *Store) Delay(ctx context.Context, run string, d []Delay) ([]bool, error) {
	if len(d) == 0 {
		return nil, nil
	}
	args := make([]any, 0, 1+4*len(d))
	args = append(args, len(d))
	for i := range d {
		after := max(d[i].After.Milliseconds(), 0)
		how := flag(d[i].Count, "count") + flag(d[i].Isolate, "isolate")
		args = append(args, d[i].Delivery, after, how, shaOf(how != "", d[i].Record))
	}
	reply, err := s.call(ctx, delayScript, run, s.keys.inflight(run), args...).BoolSlice()
	if err != nil {
		return nil, failure("delay", err)
	}
	if len(reply) != len(d) {
		return nil, failure("delay", errReply)
	}
	return reply, nil
}
