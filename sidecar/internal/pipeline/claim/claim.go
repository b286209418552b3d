// Package claim is the first stage of the pipeline. It claims records from the queue, as many
// as can start, as soon as they arrive, and none after the shutdown signal.
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

// Source is the queue in Redis. One goroutine at a time calls its methods, except Load.
type Source interface {
	// Claim claims up to limit records; it may return none. limit may be 0 after a Demand of
	// 0. A failed call is repeated with the same nonce, so that the records of a call whose
	// reply was lost are returned.
	Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error)
	// Wait blocks until records may have arrived, for about a second at most, and reports
	// whether they may have.
	Wait(ctx context.Context) (bool, error)
	// Load reads the whole record of a task that was claimed with its head only. It retries
	// until soft ends; hard interrupts a call. It returns nil if the delivery is not in
	// flight any more or soft has ended, and an error if Redis refuses the sidecar
	// permanently. It may be called concurrently.
	Load(soft, hard context.Context, t task.Task) ([]byte, error)
	// Recover waits after an error until a retry makes sense. It returns an error if no
	// retry can succeed.
	Recover(ctx context.Context, err error) error
}

// Sink receives the claimed tasks. *dispatch.Queue implements it.
type Sink interface {
	// Demand waits until tasks can start and returns their number.
	Demand(ctx context.Context) (int, error)
	// Offer adds claimed tasks.
	Offer(ts []task.Task)
	// Expect reserves slots for n tasks of a kind that will be offered later; a negative n
	// removes reservations. It ignores values that are no kind.
	Expect(kind, n int)
	// IsQuiet reports that claims are suspended. The loop then does not wait for records: a
	// blocking wait would take a record from the sidecars that can run it.
	IsQuiet() bool
}

// Loop is the claim stage.
type Loop struct {
	Source Source
	Sink   Sink
	// WaitCapacity waits while too many outcomes are not reported.
	WaitCapacity func(ctx context.Context) error
	// Tracker records the state of the loop for a watchdog.
	Tracker  *Tracker
	NewNonce func() string
	Log      *slog.Logger
	// MaxAttempts is the maximum number of attempts of a record.
	MaxAttempts int
	// Check returns an error if a decoded record cannot be sent to a worker.
	Check func(record []byte) error
	// KindOf returns the kind of worker for a task id, or task.KindNone. It is called for a
	// task of task.KindUnknown, and may be nil if the Source always sets the kind.
	KindOf func(taskID string) int
	// MaxRecordBytes returns the maximum size of a record for a kind of worker; for
	// task.KindUnknown the maximum over all kinds.
	MaxRecordBytes func(kind int) int
	// DeadLetter ends a record that must not be run. reason is a short constant, message
	// explains it.
	DeadLetter func(t task.Task, reason, message string)
	// Requeue returns a claimed task that will not be offered.
	Requeue func(t task.Task)
	// OnClaimed is called with the tasks of each claim, which may be none, before they are
	// processed.
	OnClaimed func(ts []task.Task)
	// Trace, if set, begins the span of a task; it may return nil.
	Trace func(t *task.Task) task.Span
	// OnProgress is called after every call that Redis has answered.
	OnProgress func()

	loads   sync.WaitGroup
	mu      sync.Mutex
	loadErr error // the first error of a load
}

// KindOf returns the Loop.KindOf of kinds of worker with the given valid patterns.
func KindOf(patterns []string) func(taskID string) int {
	list, _ := route.ParseAll(patterns)
	return func(taskID string) int {
		if i := route.Find(list, taskID); i >= 0 {
			return i
		}
		return task.KindNone
	}
}

// forcedClaimInterval is the interval of claims while the waits report no records. A wait may
// have moved a record into the inbox without reporting it; the record would otherwise stay
// there.
const forcedClaimInterval = 5 * time.Second

// Run claims until soft ends. It still reads the reply of an outstanding claim, until hard
// ends, because its records belong to the run already. It returns nil after a stop, and an
// error if Redis refuses the sidecar permanently. No load is under way when it returns.
func (l *Loop) Run(soft, hard context.Context) error {
	soft, stop := context.WithCancel(soft)
	err := l.loop(soft, hard, stop)
	stop()
	l.loads.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return cmp.Or(l.loadErr, err)
}

// loop is the body of Run. stop ends soft.
func (l *Loop) loop(soft, hard context.Context, stop context.CancelFunc) error {
	var lastClaim time.Time
	empty := false // the last wait reported no records
	for {
		limit, err := l.awaitDemand(soft)
		if err != nil {
			return nil // stopping
		}
		n := 0
		if !empty || time.Since(lastClaim) >= forcedClaimInterval {
			lastClaim = time.Now()
			n, err = l.claim(soft, hard, limit, stop)
		}
		empty = false
		if err == nil && n == 0 && soft.Err() == nil && !l.Sink.IsQuiet() {
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

// awaitDemand waits until the report buffer has capacity and tasks can start.
func (l *Loop) awaitDemand(soft context.Context) (int, error) {
	l.Tracker.step(waitsForReports)
	if err := l.WaitCapacity(soft); err != nil {
		return 0, err
	}
	l.Tracker.step(waitsForSlots)
	return l.Sink.Demand(soft)
}

// recover waits after an error until a retry makes sense.
func (l *Loop) recover(ctx context.Context, err error) error {
	l.Tracker.step(waitsForNothing)
	return l.Source.Recover(ctx, err)
}

// claim claims records once. It repeats the call with one nonce until Redis answers or soft
// ends. After a stop, leaving the lease requeues the records of a lost reply.
func (l *Loop) claim(soft, hard context.Context, limit int, stop context.CancelFunc) (int, error) {
	nonce := l.NewNonce()
	for {
		l.Tracker.step(waitsForNothing)
		ts, err := l.Source.Claim(hard, nonce, limit)
		if err == nil {
			l.OnProgress()
			l.handleClaimed(soft, hard, ts, stop)
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

// wait waits for records and reports whether the queue is certainly empty.
func (l *Loop) wait(soft context.Context) (bool, error) {
	l.Tracker.step(waitsForNothing)
	came, err := l.Source.Wait(soft)
	if err != nil && soft.Err() == nil {
		return false, l.recover(soft, err)
	}
	l.OnProgress()
	return !came, nil
}

// handleClaimed admits the claimed tasks. Records that were claimed with their head only are
// loaded in the background: a slow link must not delay other tasks.
func (l *Loop) handleClaimed(soft, hard context.Context, ts []task.Task, stop context.CancelFunc) {
	l.OnClaimed(ts)
	whole := 0
	for i := range ts {
		if ts[i].IsCut() {
			l.load(soft, hard, ts[i], stop)
			continue
		}
		ts[whole] = ts[i]
		whole++
	}
	l.admit(ts[:whole])
}

// load reads a record that does not fit into a reply, in the background. A record that
// matches no kind or exceeds the size limit becomes a dead letter by its head.
func (l *Loop) load(soft, hard context.Context, t task.Task, stop context.CancelFunc) {
	head := t
	head.Info = task.DecodeHead(t.Record)
	if head.Kind == task.KindUnknown && head.Info.TaskID != "" {
		head.Kind = l.KindOf(head.Info.TaskID)
	}
	switch {
	case head.Kind == task.KindNone:
		l.trace(&head)
		l.refuseUnrouted(head)
		return
	case head.Size() > l.MaxRecordBytes(head.Kind):
		l.trace(&head)
		l.refuseTooLarge(head)
		return
	}
	l.Sink.Expect(head.Kind, 1)
	l.loads.Go(func() {
		defer l.Sink.Expect(head.Kind, -1) // after Offer
		err := recoverpanic.Do(func() error {
			record, err := l.Source.Load(soft, hard, t)
			if record == nil {
				l.Requeue(head)
				return err
			}
			t.Record = record
			l.admit([]task.Task{t})
			return err
		})
		if err != nil {
			l.mu.Lock()
			l.loadErr = cmp.Or(l.loadErr, err)
			l.mu.Unlock()
			stop()
		}
	})
}

// trace begins the span of a task.
func (l *Loop) trace(t *task.Task) {
	if l.Trace != nil {
		t.Span = l.Trace(t)
	}
}

// refuseTooLarge ends a record that exceeds the size limit.
func (l *Loop) refuseTooLarge(t task.Task) {
	l.DeadLetter(t, "too-large", fmt.Sprintf("the record has %d bytes, more than the %d that a worker is given (SIDECAR_MAX_MESSAGE_BYTES)", t.Size(), l.MaxRecordBytes(t.Kind)))
}

// refuseUnrouted ends a record that no kind of worker matches.
func (l *Loop) refuseUnrouted(t task.Task) {
	l.DeadLetter(t, "unrouted", fmt.Sprintf("no kind of worker takes a task called %.200q", t.Info.TaskID))
}

// admit offers tasks with whole records, and ends those that must not be run.
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
		if err == nil && t.Kind == task.KindUnknown {
			t.Kind = l.KindOf(info.TaskID)
		}
		switch {
		case err != nil:
			l.DeadLetter(*t, "invalid", err.Error())
		case t.Kind == task.KindNone:
			l.refuseUnrouted(*t)
		case t.Attempt > l.MaxAttempts:
			l.DeadLetter(*t, "attempts", "task was lost with its worker too often")
		case len(t.Record) > l.MaxRecordBytes(t.Kind):
			l.refuseTooLarge(*t)
		default:
			ts[good] = *t
			good++
		}
	}
	if good > 0 {
		l.Tracker.step(waitsForNothing)
		l.Sink.Offer(ts[:good])
	}
}
