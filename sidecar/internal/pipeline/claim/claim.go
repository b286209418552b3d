// Package claim is the loop that takes records from the queue: as many as can
// start, as soon as they are there, and never one after it was told to stop.
package claim

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Source is the queue as the claim loop sees it. Only one goroutine calls it.
type Source interface {
	// Claim takes up to limit records; none is no error, and neither is a limit of
	// 0, where Want returns that. A call that failed is
	// repeated with the same nonce until it answers, so that records that were
	// claimed by a call whose reply was lost are not forgotten.
	Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error)
	// Wait blocks until records may be there, for about a second at most, and
	// reports whether they may.
	Wait(ctx context.Context) (bool, error)
	// Recover waits until it makes sense to try again after an error. It
	// returns an error where it never will.
	Recover(ctx context.Context, err error) error
}

// Room is where claimed tasks go.
type Room interface {
	Want(ctx context.Context) (int, error)
	Put(ts []task.Task)
	// IsQuiet says that nothing is wanted for the time being: a wait for new
	// records would only get in the others' way.
	IsQuiet() bool
}

// Loop is the claim stage.
type Loop struct {
	Source   Source
	Room     Room
	NewNonce func() string
	Log      *slog.Logger
	// MaxAttempts is how many lost deliveries a record may have had.
	MaxAttempts int
	// Check says whether a record that can be decoded can also be handed to a
	// worker.
	Check func(record []byte) error
	// Route says which kind of worker takes a task whose Route is unknown;
	// task.RouteNone for none. It may be nil where the source always knows.
	Route func(taskID string) int
	// Refuse takes the records that are not to be run: reason is a short
	// constant, message says it in words.
	Refuse func(t task.Task, reason, message string)
	// Claimed is called with every claimed task before anything else is done
	// with it.
	Claimed func(ts []task.Task)
	// Trace, if set, begins the span of a task; nil for none.
	Trace func(t *task.Task) task.Span
	// Progress is called after every call that Redis answered.
	Progress func()
}

// lookEvery is how often a claim is made although the waits say that there is
// nothing: what a wait brought and did not tell of must not lie there for ever.
const lookEvery = 5 * time.Second

// Run claims until soft ends. A claim whose reply is outstanding at that time
// is read, for as long as hard allows: its records are ours already. It
// returns nil after a stop and an error when Redis refuses us for good.
func (l *Loop) Run(soft, hard context.Context) error {
	var looked time.Time
	empty := false // the last wait said so
	for {
		limit, err := l.Room.Want(soft)
		if err != nil {
			return nil // stopping
		}
		n := 0
		if !empty || time.Since(looked) >= lookEvery {
			looked = time.Now()
			n, err = l.claim(soft, hard, limit)
		}
		empty = false
		if err == nil && n == 0 && soft.Err() == nil && !l.Room.IsQuiet() {
			empty, err = l.wait(soft)
		}
		if soft.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// claim takes records once, repeating the call with one nonce until Redis
// answers it. A stop ends the repeating: what a lost reply left in our
// in-flight hash is given back with the lease.
func (l *Loop) claim(soft, hard context.Context, limit int) (int, error) {
	nonce := l.NewNonce()
	for {
		ts, err := l.Source.Claim(hard, nonce, limit)
		if err == nil {
			l.Progress()
			l.take(ts)
			return len(ts), nil
		}
		if soft.Err() != nil {
			return 0, nil
		}
		if err := l.Source.Recover(soft, err); err != nil {
			return 0, err
		}
	}
}

// wait waits for records and reports whether it is sure that there are none.
func (l *Loop) wait(soft context.Context) (bool, error) {
	came, err := l.Source.Wait(soft)
	if err != nil && soft.Err() == nil {
		return false, l.Source.Recover(soft, err)
	}
	l.Progress()
	return !came && err == nil, nil
}

func (l *Loop) take(ts []task.Task) {
	if len(ts) == 0 {
		return
	}
	l.Claimed(ts)
	good := 0
	for i := range ts {
		t := &ts[i]
		info, err := task.Decode(t.Record)
		t.Info = info
		if l.Trace != nil {
			t.Span = l.Trace(t)
		}
		if err == nil {
			err = l.Check(t.Record)
		}
		if err == nil && t.Route == task.RouteUnknown {
			t.Route = l.Route(info.TaskID)
		}
		switch {
		case err != nil:
			l.Refuse(*t, "invalid", err.Error())
		case t.Route == task.RouteNone:
			l.Refuse(*t, "unrouted", fmt.Sprintf("no kind of worker takes a task called %.200q", info.TaskID))
		case t.Attempt > l.MaxAttempts:
			l.Refuse(*t, "attempts", "task was lost with its worker too often")
		default:
			if good < i {
				ts[good] = *t
			}
			good++
		}
	}
	if good > 0 {
		l.Room.Put(ts[:good])
	}
}
