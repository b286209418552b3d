package app

import (
	"context"
	"errors"
)

// LocalRedisError says that the Redis that the sidecar had started itself has ended
// while it was needed. All that was in it is lost.
type LocalRedisError struct{ Err error }

func (e *LocalRedisError) Error() string {
	return "the embedded redis has ended, and its tasks are lost with it: " + e.Err.Error()
}

// Unwrap gives how it ended.
func (e *LocalRedisError) Unwrap() error { return e.Err }

var errLocalEnded = errors.New("it gave no reason")

// runLocal is the stage of our own Redis, which goes last. Where it dies by itself
// the sidecar ends at once: no record, lease or barrier comes back, and the
// outcome of a task that finishes can be reported nowhere.
func (a *App) runLocal(soft, hard context.Context) error {
	select {
	case <-soft.Done():
		return errors.Join(a.local.Err(), a.local.Stop(hard))
	case <-a.local.Done():
	}
	err := a.local.Err()
	if err == nil {
		err = errLocalEnded
	}
	counts := a.queue.Counts()
	a.Abort()
	a.log.Error("embedded redis has ended: its tasks are lost",
		"running", counts.Running, "waiting", counts.Ready, "unreported", a.box.Pending(), "error", err)
	return &LocalRedisError{errors.Join(err, a.local.Stop(hard))}
}

// localDone is closed when our own Redis has ended; nil without one.
func (a *App) localDone() <-chan struct{} {
	if a.local == nil {
		return nil
	}
	return a.local.Done()
}

// isLost reports whether our own Redis has ended: nothing can be told to it any more,
// and nothing will come back.
func (a *App) isLost() bool {
	select {
	case <-a.localDone():
		return true
	default:
		return false
	}
}

func (a *App) stopLocal(ctx context.Context) {
	if a.local != nil {
		_ = a.local.Stop(ctx)
	}
}
