package redis

import (
	"context"
	_ "embed" // the scripts
	"strings"
	"time"
)

//go:embed routing.lua
var routingLua string

//go:embed claim_routed.lua
var claimRoutedLua string
var claimRoutedScript = routing(claimingLua, claimRoutedLua)

//go:embed collect.lua
var collectLua string
var collectScript = routing(collectLua)

// routing returns the script of an operation that routes records by their task ids.
func routing(parts ...string) scripted { return script(append([]string{routingLua}, parts...)...) }

// lookAt is the number of records that a claim examines, both in the queue and among the
// unrouted records.
const lookAt = 64

// Values of Claimed.Kind that are no index.
const (
	// KindUnknown means that the script cannot read the task id. Decode the record.
	KindUnknown = -1
	// KindNone means that no kind of any member matches the task. End it with a dead
	// Report.
	KindNone = -2
)

// KindDemand is the demand of several kinds of worker.
type KindDemand struct {
	// Patterns are the patterns of the kinds, in the format of package route. The first
	// matching pattern counts.
	Patterns []string
	// Free is the number of tasks of each kind that may be claimed now.
	Free []int
	// Keep is the time for which an unrouted record is kept.
	Keep time.Duration
}

// patterns returns the patterns as an argument of the scripts.
func (r KindDemand) patterns() string { return strings.Join(r.Patterns, "\n") }

func (r KindDemand) free() []any {
	list := make([]any, len(r.Free))
	for i, n := range r.Free {
		list[i] = max(n, 0)
	}
	return list
}

// Routed is the result of [Store.ClaimRouted].
type Routed struct {
	Claimed   []Claimed // Kind is set
	Remaining int       // records in the queue
	// Moved is the number of records that moved from the queue to the unrouted list.
	// Records for this run may be behind them.
	Moved int
}

// ClaimRouted claims records for a run with several kinds of worker. It claims tasks of
// the kinds with free slots from the unrouted records, the inbox and the queue, and
// leaves the others in place. A record that matches no kind of the run moves to the
// unrouted records. After r.Keep, if no member matches it, it is claimed as KindNone. See
// [Store.Claim] for nonce and errors.
func (s *Store) ClaimRouted(ctx context.Context, run, nonce string, r KindDemand) (Routed, error) {
	t := s.claimTurn(run, nonce)
	most, head := t.reply()
	args := []any{
		t.n, lookAt, s.o.MaxClaimBytes, s.floor(numbering{run: run}), most, head,
		r.patterns(), r.Keep.Milliseconds(),
	}
	args = append(args, r.free()...)
	reply, err := s.call(ctx, claimRoutedScript, run, s.keys.inflight(run), args...).Slice()
	if err != nil {
		return Routed{}, failure("claim", err)
	}
	const fields = 6
	if len(reply) != fields {
		return Routed{}, failure("claim", errReply)
	}
	kinds, ok1 := reply[3].([]any)
	left, ok2 := reply[4].(int64)
	moved, ok3 := reply[5].(int64)
	claimed, ok := s.claimed(run, reply[:3], kinds)
	if !ok || !ok1 || !ok2 || !ok3 {
		return Routed{}, failure("claim", errReply)
	}
	return Routed{Claimed: claimed, Remaining: int(left), Moved: int(moved)}, nil
}

// kindOf converts the kind of a script's reply, which counts from 1.
func kindOf(reply any) (kind int, ok bool) {
	n, ok := reply.(int64)
	switch n {
	case 0:
		return KindUnknown, ok
	case -1:
		return KindNone, ok
	default:
		return int(n) - 1, ok
	}
}

// Collect moves at most max unrouted records into the run's inbox, from where
// [Store.Claim] takes them. It is for a run that takes every task. It returns the number
// of records, and [ErrGone] for a run that is not a member.
func (s *Store) Collect(ctx context.Context, run string, max int) (int, error) {
	n, err := s.call(ctx, collectScript, run, s.keys.inbox(run), max, s.o.MaxClaimBytes).Int()
	return n, failure("collect", err)
}
