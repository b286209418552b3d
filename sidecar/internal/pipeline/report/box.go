package report

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Box collects outcomes for the report loop. It is apart from the loop so that
// it outlives it: a child that ends last must always find it open. Methods may
// be called concurrently and never block.
type Box struct {
	// MaxBytes is how many bytes may wait before nothing more should be claimed; 0
	// means any number. It is set before the box is used.
	MaxBytes int64

	wake chan struct{}
	room chan struct{} // one token: Redis has heard of some

	mu      sync.Mutex
	pending []task.Outcome
	spare   []task.Outcome // empty; what the last batch was in
	busy    int            // taken by the loop, not yet settled
	bytes   int64          // of pending and of what the loop has taken
	taken   int64          // of the latter
}

// NewBox returns an empty box.
func NewBox() *Box {
	return &Box{wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// Done adds an outcome.
func (b *Box) Done(o task.Outcome) {
	b.mu.Lock()
	b.pending = append(b.pending, o)
	b.bytes += memory(b.pending[len(b.pending)-1:]...)
	b.mu.Unlock()
	b.nudge()
}

// DoneAll adds outcomes. It does not keep the slice.
func (b *Box) DoneAll(os []task.Outcome) {
	b.mu.Lock()
	b.pending = append(b.pending, os...)
	b.bytes += memory(b.pending[len(b.pending)-len(os):]...)
	b.mu.Unlock()
	b.nudge()
}

// DeadLetter adds the outcome of a record that is not to be run: reason is a short
// constant, message says it in words.
func (b *Box) DeadLetter(t task.Task, reason, message string) {
	b.Done(task.Outcome{Task: t, Kind: task.Dead, Reason: reason, Message: message, EndedAt: time.Now()})
}

// GiveBack adds the outcome of a task that was claimed and is not started.
func (b *Box) GiveBack(t task.Task) {
	b.Done(task.Outcome{Task: t, Kind: task.Returned, Message: "not started", EndedAt: time.Now()})
}

// SetAside adds the outcome of a task that must run alone in a sidecar and cannot be
// alone in this one.
func (b *Box) SetAside(t task.Task) {
	b.Done(task.Outcome{Task: t, Kind: task.Returned, Isolate: true, Message: "not started: other tasks run in this sidecar", EndedAt: time.Now()})
}

func (b *Box) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Pending is how many outcomes are not settled yet.
func (b *Box) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending) + b.busy
}

// Bytes is how much memory the outcomes take that are not settled yet, about.
func (b *Box) Bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// memory is how much outcomes keep, about.
func memory(os ...task.Outcome) (n int64) {
	for i := range os {
		o := &os[i]
		n += int64(len(o.Task.Record) + len(o.Value) + len(o.Message) + len(o.MessageJSON) + len(o.Stderr) + len(o.Stack))
	}
	return n
}

// enough is how many outcomes may wait before nothing more should be claimed:
// one batch is on its way, and the next one is complete.
const enough = 2 * maxBatch

// isFull reports whether nothing more should be claimed.
func (b *Box) isFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending)+b.busy > enough || b.MaxBytes > 0 && b.bytes > b.MaxBytes
}

// Room waits until few enough outcomes wait for Redis, and few enough bytes. Where
// tasks end faster than they can be reported, what is claimed meanwhile would only
// lie in flight, more and more of it. One goroutine may wait at a time.
func (b *Box) Room(ctx context.Context) error {
	for b.isFull() {
		select {
		case <-b.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// take removes up to maxBatch outcomes that carry up to maxBytes, or one. There is no
// timer: what is ready goes, and while one batch is on its way the next one grows.
func (b *Box) take() []task.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := fitting(b.pending)
	batch := b.pending[:n:n]
	if n == len(b.pending) {
		// Outcomes are large: growing a new slice for each batch was a tenth of
		// the sidecar's memory traffic.
		b.pending, b.spare = b.spare, nil
	} else {
		b.pending = b.pending[n:]
		b.nudge()
	}
	b.busy, b.taken = n, memory(batch...)
	return batch
}

// settle ends a batch; again holds what must be reported once more, first. It may
// be the batch itself.
func (b *Box) settle(batch, again []task.Outcome) {
	b.mu.Lock()
	b.bytes += memory(again...) - b.taken
	b.busy, b.taken = 0, 0
	if len(again) > 0 {
		b.pending = append(slices.Clip(again), b.pending...)
	} else if cap(batch) > 0 {
		clear(batch) // let go of the records
		b.spare = batch[:0]
	}
	b.mu.Unlock()
	select {
	case b.room <- struct{}{}:
	default:
	}
	if len(again) > 0 {
		b.nudge()
	}
}

// Left returns what was never delivered. Only after Loop.Run has returned.
func (b *Box) Left() []task.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pending)
}
