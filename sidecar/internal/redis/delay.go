package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed take_isolated.lua
var takeIsolatedLua string
var takeIsolatedScript = routing(takeIsolatedLua)

// TakeIsolated brings one isolated record (see [Delay]) into the run's inbox, from
// where the claim with the same nonce takes it, which comes after it; the record is
// then to run alone in the sidecar. r has the patterns and free slots of the run's
// kinds of worker; it is empty for a run that takes every task. It reports whether a
// record is in the inbox. After an error the same call may be made again, or left
// out. It returns [ErrGone] for a run that is no member.
func (s *Store) TakeIsolated(ctx context.Context, run, nonce string, r Routes) (bool, error) {
	args := append([]any{s.turn(run, nonce).n, s.o.MaxClaimBytes, r.patterns()}, r.free()...)
	took, err := s.call(ctx, takeIsolatedScript, run, s.keys.inbox(run), args...).Bool()
	return took, failure("take isolated", err)
}

//go:embed delay.lua
var delayLua string
var delayScript = script(delayLua)

// Delay puts deliveries aside. When they are due, some sidecar's [Store.Tick]
// hands their records back to the end of the queue that we take from. The
// answer says for each delivery whether it was in flight; false on a retry
// also means that the first try was applied. It needs no membership.
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
