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

// Release hands deliveries back, in whatever order they are given, so that
// their records come to lie at the end of the queue that we take from in their
// old order. The answers come in the order of rel. Like a report it needs no
// membership. All of it is one step: keep rel to a few hundred records.
//
// A record that was lost for the last time is not requeued; see
// [Released.Exhausted].
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
		args = append(args, r.Delivery, how(r), company(r), max(r.MaxAttempts, 1), shaOf(r.Lost || r.Unread, r.Record))
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
		released[i] = Released{Late: outcome == "late", Exhausted: outcome == "exhausted", Counted: outcome == "counted", Losses: int(losses)}
	}
	return released, nil
}

// how is what became of a delivery.
func how(r *Release) string {
	if r.Unread {
		return "unread"
	}
	return flag(r.Lost, "lost")
}

// company is with whom a delivery was lost.
func company(r *Release) string {
	if r.Whole {
		return "run"
	}
	return flag(r.Shared, "child")
}

// shaOf saves Redis the hashing where the caller has the record at hand; else
// the script does it.
func shaOf(wanted bool, record []byte) string {
	if !wanted || record == nil {
		return ""
	}
	return RecordSHA(record)
}
