package redis

import (
	"cmp"
	"context"
	_ "embed" // the script
	"slices"
)

//go:embed release.lua
var releaseLua string
var releaseScript = script(releaseLua)

// Release requeues deliveries at the end of the queue that records are claimed from, in
// their old order, for rel in any order. The results have the order of rel. The run need
// not be a member. Release is one step in Redis, so rel should have a few hundred records
// at most.
//
// A record that was lost for the last time is not requeued; see [Released.Exhausted].
func (s *Store) Release(ctx context.Context, run string, rel []Release) ([]Released, error) {
	if len(rel) == 0 {
		return nil, nil
	}
	order := make([]int, len(rel))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(rel[b].Seq, rel[a].Seq) })

	args := make([]any, 0, 1+5*len(rel))
	args = append(args, len(rel))
	for _, i := range order {
		r := &rel[i]
		args = append(args, r.Delivery, lossOf(r), sharedWith(r), max(r.MaxAttempts, 1), shaOf(r.Lost || r.Unread, r.Record))
	}
	reply, err := s.call(ctx, releaseScript, run, s.keys.inflight(run), args...).Slice()
	if err != nil {
		return nil, failure("release", err)
	}
	if len(reply) != 2*len(rel) {
		return nil, failure("release", errReply)
	}
	released := make([]Released, len(rel))
	for n, i := range order {
		outcome, ok1 := reply[2*n].(string)
		losses, ok2 := reply[2*n+1].(int64)
		if !ok1 || !ok2 {
			return nil, failure("release", errReply)
		}
		released[i] = Released{NotInFlight: outcome == "not-in-flight", Exhausted: outcome == "exhausted", Counted: outcome == "counted", Losses: int(losses)}
	}
	return released, nil
}

// lossOf returns the script's word for the loss of a delivery.
func lossOf(r *Release) string {
	if r.Unread {
		return "unread"
	}
	return flag(r.Lost, "lost")
}

// sharedWith returns the script's word for the tasks that were lost with a delivery.
func sharedWith(r *Release) string {
	if r.Whole {
		return "run"
	}
	return flag(r.Shared, "child")
}

// shaOf returns the SHA-1 of a record if the script needs it and the record is available;
// otherwise the script computes it.
func shaOf(wanted bool, record []byte) string {
	if !wanted || record == nil {
		return ""
	}
	return RecordSHA(record)
}
