package store

import (
	"context"
	_ "embed" // the script
)

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
		args = append(args, d[i].Delivery, after, flag(d[i].Count, "count"), shaOf(d[i].Count, d[i].Record))
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
