// Package claim is the loop that takes records from the queue: as many as can
// start, as soon as they are there, and never one after it was told to stop.
package claim

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
)

// Source is the queue as the claim loop sees it. Only one goroutine calls it, but
// for Load.
type Source interface {
	// Claim takes up to limit records; none is no error, and neither is a limit of
	// 0, where Want returns that. A call that failed is
	// repeated with the same nonce until it answers, so that records that were
	// claimed by a call whose reply was lost are not forgotten.
	Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error)
	// Wait blocks until records may be there, for about a second at most, and
	// reports whether they may.
	Wait(ctx context.Context) (bool, error)
	// Load reads the whole record of a task that came with its head only, and tries
	// again for as long as soft allows; hard cuts a call short. It returns nil where
	// the delivery is not ours any more or soft has ended, and an error where
	// Redis refuses us for good. It may be called concurrently.
	Load(soft, hard context.Context, t task.Task) ([]byte, error)
	// Recover waits until it makes sense to try again after an error. It
	// returns an error where it never will.
	Recover(ctx context.Context, err error) error
}

// Room is where claimed tasks go.
type Room interface {
	Want(ctx context.Context) (int, error)
	Put(ts []task.Task)
	// Expect tells that n more tasks of a kind will be put, or fewer for a negative
	// n: their slots are not to be claimed for. It ignores unknown kinds.
	Expect(route, n int)
	// IsQuiet says that nothing is wanted for the time being: a wait for new
	// records would only get in the others' way.
	IsQuiet() bool
}

// Loop is the claim stage.
type Loop struct {
	Source Source
	Room   Room
	// Backlog waits while too many outcomes are not reported yet.
	Backlog func(ctx context.Context) error
	// Tracker notes what the loop does.
	Tracker  *Tracker
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
	// Longest is how many bytes a record for a kind of worker may have; for
	// task.RouteUnknown the most of all kinds.
	Longest func(route int) int
	// Refuse takes the records that are not to be run: reason is a short
	// constant, message says it in words.
	Refuse func(t task.Task, reason, message string)
	// GiveBack takes the tasks that were claimed and will not be put.
	GiveBack func(t task.Task)
	// Claimed is called with every claimed task before anything else is done
	// with it.
	Claimed func(ts []task.Task)
	// Trace, if set, begins the span of a task; nil for none.
	Trace func(t *task.Task) task.Span
	// Progress is called after every call that Redis answered.
	Progress func()

	loads  sync.WaitGroup
	mu     sync.Mutex
	failed error // the first one of a load
}

// RouteOf is [Loop.Route] for kinds of worker that have these patterns, which are valid.
func RouteOf(patterns []string) func(taskID string) int {
	list, _ := route.ParseAll(patterns)
	return func(taskID string) int {
		if i := route.Find(list, taskID); i >= 0 {
			return i
		}
		return task.RouteNone
	}
}

// lookEvery is how often a claim is made although the waits say that there is
// nothing: what a wait brought and did not tell of must not lie there for ever.
const lookEvery = 5 * time.Second

// Run claims until soft ends. A claim whose reply is outstanding at that time
// is read, for as long as hard allows: its records are ours already. It
// returns nil after a stop and an error when Redis refuses us for good. No load
// is under way when it returns.
func (l *Loop) Run(soft, hard context.Context) error {
	soft, stop := context.WithCancel(soft)
	err := l.run(soft, hard, stop)
	stop()
	l.loads.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return cmp.Or(l.failed, err)
}

func (l *Loop) run(soft, hard context.Context, stop context.CancelFunc) error {
	var looked time.Time
	empty := false // the last wait said so
	for {
		limit, err := l.want(soft)
		if err != nil {
			return nil // stopping
		}
		n := 0
		if !empty || time.Since(looked) >= lookEvery {
			looked = time.Now()
			n, err = l.claim(soft, hard, limit, stop)
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

// want waits until tasks are wanted.
func (l *Loop) want(soft context.Context) (int, error) {
	l.Tracker.step(waitsForReports)
	if err := l.Backlog(soft); err != nil {
		return 0, err
	}
	l.Tracker.step(waitsForSlots)
	return l.Room.Want(soft)
}

// recover waits until it makes sense to try again after an error.
func (l *Loop) recover(ctx context.Context, err error) error {
	l.Tracker.step(waitsForNothing)
	return l.Source.Recover(ctx, err)
}

// claim takes records once, repeating the call with one nonce until Redis
// answers it. A stop ends the repeating: what a lost reply left in our
// in-flight hash is given back with the lease.
func (l *Loop) claim(soft, hard context.Context, limit int, stop context.CancelFunc) (int, error) {
	nonce := l.NewNonce()
	for {
		l.Tracker.step(waitsForNothing)
		ts, err := l.Source.Claim(hard, nonce, limit)
		if err == nil {
			l.Progress()
			l.take(soft, hard, ts, stop)
			return len(ts), nil
		}
		if soft.Err() != nil {
			return 0, nil
		}
		if err := l.recover(soft, err); err != nil {
			return 0, err
		}
	}
}

// wait waits for records and reports whether it is sure that there are none.
func (l *Loop) wait(soft context.Context) (bool, error) {
	l.Tracker.step(waitsForNothing)
	came, err := l.Source.Wait(soft)
	if err != nil && soft.Err() == nil {
		return false, l.recover(soft, err)
	}
	l.Progress()
	return !came && err == nil, nil
}

// take passes on what was claimed. What came with the head of its record only is
// loaded on the side: that takes as long as the link to Redis is slow, and other
// tasks start meanwhile.
func (l *Loop) take(soft, hard context.Context, ts []task.Task, stop context.CancelFunc) {
	if len(ts) == 0 {
		return
	}
	l.Claimed(ts)
	whole := 0
	for i := range ts {
		if ts[i].IsCut() {
			l.load(soft, hard, ts[i], stop)
			continue
		}
		if whole < i {
			ts[whole] = ts[i]
		}
		whole++
	}
	l.admit(ts[:whole])
}

// load reads a record that does not fit into a reply, unless no worker here takes
// one of that length: then it is refused by what its head tells.
func (l *Loop) load(soft, hard context.Context, t task.Task, stop context.CancelFunc) {
	head := t
	head.Info = task.DecodeHead(t.Record)
	if head.Route == task.RouteUnknown && head.Info.TaskID != "" {
		head.Route = l.Route(head.Info.TaskID)
	}
	switch {
	case head.Route == task.RouteNone:
		l.trace(&head)
		l.noRoute(head)
		return
	case head.Size() > l.Longest(head.Route):
		l.trace(&head)
		l.tooLong(head)
		return
	}
	l.Room.Expect(head.Route, 1)
	l.loads.Go(func() {
		defer l.Room.Expect(head.Route, -1) // after it was put
		err := recoverpanic.Do(func() error {
			record, err := l.Source.Load(soft, hard, t)
			if record == nil {
				l.GiveBack(head)
				return err
			}
			t.Record = record
			l.admit([]task.Task{t})
			return err
		})
		if err != nil {
			l.mu.Lock()
			l.failed = cmp.Or(l.failed, err)
			l.mu.Unlock()
			stop()
		}
	})
}

func (l *Loop) trace(t *task.Task) {
	if l.Trace != nil {
		t.Span = l.Trace(t)
	}
}

func (l *Loop) tooLong(t task.Task) {
	l.Refuse(t, "too-large", fmt.Sprintf("the record has %d bytes, more than the %d that a worker is given (SIDECAR_MAX_MESSAGE_BYTES)", t.Size(), l.Longest(t.Route)))
}

func (l *Loop) noRoute(t task.Task) {
	l.Refuse(t, "unrouted", fmt.Sprintf("no kind of worker takes a task called %.200q", t.Info.TaskID))
}

// admit passes on tasks whose records are there, and refuses those that are not to
// be run.
func (l *Loop) admit(ts []task.Task) {
	good := 0
	for i := range ts {
		t := &ts[i]
		info, err := task.Decode(t.Record)
		t.Info = info
		l.trace(t)
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
			l.noRoute(*t)
		case t.Attempt > l.MaxAttempts:
			l.Refuse(*t, "attempts", "task was lost with its worker too often")
		case len(t.Record) > l.Longest(t.Route):
			l.tooLong(*t)
		default:
			if good < i {
				ts[good] = *t
			}
			good++
		}
	}
	if good > 0 {
		l.Tracker.step(waitsForNothing)
		l.Room.Put(ts[:good])
	}
}
