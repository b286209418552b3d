package report

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Buffer holds outcomes until Redis has answered for them. It is separate from Loop and
// outlives it: the worker process that ends last can still add an outcome. Its methods may
// be called concurrently. Only WaitCapacity blocks.
type Buffer struct {
	// MaxBytes is the number of bytes above which the buffer is full; 0 means no limit. It
	// is set before the buffer is used.
	MaxBytes int64

	wake  chan struct{} // one token: an outcome was added
	freed chan struct{} // one token: a batch was acknowledged

	mu           sync.Mutex
	pending      []task.Outcome
	spare        []task.Outcome // empty; its memory is reused
	unacked      int            // outcomes that next has returned and ack has not settled
	bytes        int64          // of pending and of the unacknowledged batch
	unackedBytes int64          // of the unacknowledged batch
}

// NewBuffer returns an empty buffer.
func NewBuffer() *Buffer {
	return &Buffer{wake: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
}

// Add adds an outcome.
func (b *Buffer) Add(o task.Outcome) {
	b.mu.Lock()
	b.pending = append(b.pending, o)
	b.bytes += memoryOf(b.pending[len(b.pending)-1:]...)
	b.mu.Unlock()
	b.signal()
}

// AddAll adds outcomes. It does not retain the slice.
func (b *Buffer) AddAll(os []task.Outcome) {
	b.mu.Lock()
	b.pending = append(b.pending, os...)
	b.bytes += memoryOf(b.pending[len(b.pending)-len(os):]...)
	b.mu.Unlock()
	b.signal()
}

// DeadLetter adds the outcome of a record that must not be run. reason is a short constant,
// message explains it.
func (b *Buffer) DeadLetter(t task.Task, reason, message string) {
	b.Add(task.Outcome{Task: t, Conclusion: task.Dead, Reason: reason, Message: message, EndedAt: time.Now()})
}

// Requeue adds the outcome of a claimed task that is not started.
func (b *Buffer) Requeue(t task.Task) {
	b.Add(task.Outcome{Task: t, Conclusion: task.Returned, Message: "not started", EndedAt: time.Now()})
}

// Defer adds the outcome of a task that must run alone in a sidecar and cannot be
// alone in this one.
func (b *Buffer) Defer(t task.Task) {
	b.Add(task.Outcome{Task: t, Conclusion: task.Returned, Isolate: true, Message: "not started: other tasks run in this sidecar", EndedAt: time.Now()})
}

func (b *Buffer) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Pending returns the number of outcomes that are not acknowledged.
func (b *Buffer) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending) + b.unacked
}

// Bytes returns the approximate memory of the outcomes that are not acknowledged.
func (b *Buffer) Bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// memoryOf returns the approximate memory of outcomes.
func memoryOf(os ...task.Outcome) (n int64) {
	for i := range os {
		o := &os[i]
		n += int64(len(o.Task.Record) + len(o.Value) + len(o.Message) + len(o.MessageJSON) + len(o.Stderr) + len(o.Stack))
	}
	return n
}

// maxPending is the number of outcomes above which the buffer is full: one batch on its way
// and a complete next one.
const maxPending = 2 * maxBatch

// isFull reports whether the sidecar should stop to claim.
func (b *Buffer) isFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending)+b.unacked > maxPending || b.MaxBytes > 0 && b.bytes > b.MaxBytes
}

// WaitCapacity waits until the buffer is not full. If tasks end faster than they can be
// reported, claims would otherwise put more and more records in flight. One goroutine may
// wait at a time.
func (b *Buffer) WaitCapacity(ctx context.Context) error {
	for b.isFull() {
		select {
		case <-b.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// next removes and returns the next batch: up to maxBatch outcomes of up to maxBytes, or one
// outcome. There is no timer: while one batch is on its way, the next one grows.
func (b *Buffer) next() []task.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := batchLen(b.pending)
	batch := b.pending[:n:n]
	if n == len(b.pending) {
		// Outcomes are large: a new slice for each batch caused a tenth of the sidecar's
		// memory traffic.
		b.pending, b.spare = b.spare, nil
	} else {
		b.pending = b.pending[n:]
		b.signal()
	}
	b.unacked, b.unackedBytes = n, memoryOf(batch...)
	return batch
}

// ack acknowledges a batch. again holds the outcomes that must be reported again, before all
// others; it may be the batch itself. The caller asks for the next batch at once.
func (b *Buffer) ack(batch, again []task.Outcome) {
	b.mu.Lock()
	b.bytes += memoryOf(again...) - b.unackedBytes
	b.unacked, b.unackedBytes = 0, 0
	if len(again) > 0 {
		b.pending = append(slices.Clip(again), b.pending...)
	} else if cap(batch) > 0 {
		clear(batch) // the records can be freed
		b.spare = batch[:0]
	}
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// Undelivered returns the outcomes that Redis has not answered. It must be called after
// Loop.Run has returned.
func (b *Buffer) Undelivered() []task.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pending)
}
