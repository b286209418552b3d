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

// routing is the script of an operation that looks at the tasks' ids.
func routing(parts ...string) scripted { return script(append([]string{routingLua}, parts...)...) }

// lookAt is how many records of the queue are looked at for one that can be
// claimed, and how many of the unrouted ones.
const lookAt = 64

// Kinds of a [Claimed] that have no number.
const (
	// KindUnknown: Redis cannot tell what the task is called. Decode the record.
	KindUnknown = -1
	// KindNone: nobody takes the task. End it with a dead Report.
	KindNone = -2
)

// Routes say which of several kinds of worker takes a task.
type Routes struct {
	// Patterns are those of the kinds, as package route has them: the first that
	// fits the task's id counts.
	Patterns []string
	// Free is how many tasks of each kind may be claimed now.
	Free []int
	// Keep is how long a record is kept that no member takes.
	Keep time.Duration
}

// patterns and free are the scripts' arguments.
func (r Routes) patterns() string { return strings.Join(r.Patterns, "\n") }

func (r Routes) free() []any {
	list := make([]any, len(r.Free))
	for i, n := range r.Free {
		list[i] = max(n, 0)
	}
	return list
}

// Routed is what a [Store.ClaimRouted] brought.
type Routed struct {
	Claimed []Claimed // with their Kind
	Left    int       // records in the queue
	// Moved is how many records of the queue were put with the unrouted ones: no
	// kind here takes them, and behind them there may be others.
	Moved int
}

// ClaimRouted is Claim for a run with several kinds of worker: it claims tasks
// of those that have free slots, out of the unrouted records, the inbox and the
// queue, and leaves the others where they are. A record of no kind here is put
// with the unrouted ones; one that has been there for r.Keep while no member took
// its kind is claimed as KindNone.
func (s *Store) ClaimRouted(ctx context.Context, run, nonce string, r Routes) (Routed, error) {
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
	return Routed{Claimed: claimed, Left: int(left), Moved: int(moved)}, nil
}

// kindOf turns the script's number into ours: it counts from 1.
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

// Collect brings at most max unrouted records into the run's inbox, from where
// [Store.Claim] takes them: for a run that takes every kind of task. It returns
// how many, and [ErrGone] for a run that is no member.
func (s *Store) Collect(ctx context.Context, run string, max int) (int, error) {
	n, err := s.call(ctx, collectScript, run, s.keys.inbox(run), max, s.o.MaxClaimBytes).Int()
	return n, failure("collect", err)
}
