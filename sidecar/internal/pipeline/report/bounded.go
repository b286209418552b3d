package report

import (
	"context"
	"errors"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

const (
	// diskTimeout is the time after which an operation on a disk counts as stalled. The lease
	// of a run is kept while its file is read: a disk that never answers would otherwise keep
	// the records of that run in flight for ever.
	diskTimeout = 30 * time.Second
	// diskGrace is the time that an operation has once its context has ended. A stop waits
	// for it.
	diskGrace = 300 * time.Millisecond
)

// errStalled is the error of an operation on a disk that does not answer, such as that of a
// stalled NFS server. The operation may still happen.
var errStalled = errors.New("the disk does not answer")

// bounded calls f on a goroutine of its own, because no operation on a disk can be cancelled.
// It returns errStalled if f does not return until ctx has ended and the grace is over.
// Nothing that f uses may be used after that. A panic of f goes on in the caller.
func bounded[T any](ctx context.Context, grace time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = recoverpanic.Do(func() (err error) { r.value, err = f(); return err })
		done <- r
	}()
	settle := func(r result) (T, error) {
		if p, ok := errors.AsType[*recoverpanic.Panic](r.err); ok {
			panic(p)
		}
		return r.value, r.err
	}
	select {
	case r := <-done:
		return settle(r)
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-done:
		return settle(r)
	case <-timer.C:
		var none T
		return none, errStalled
	}
}
