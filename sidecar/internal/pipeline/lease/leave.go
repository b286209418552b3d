package lease

import (
	"context"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
)

// leavePause is between attempts to leave.
var leavePause = backoff.Policy{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}

// leaveTimeout bounds the time that a stop waits for an unreachable Redis. No outcome depends
// on it: all records are reported or requeued by then, and other sidecars recover the rest when
// the lease has expired. It is longer than the second for which a client connects no more once
// connections were refused: a stop that began when Redis was just back left its run behind.
const leaveTimeout = 2 * time.Second

// Leave ends the run and requeues the records that it still has in flight. It retries until
// hard ends. It must be called after Run has returned, also if Run has failed or panicked.
func (l *Lease) Leave(hard context.Context) {
	run := l.attempted
	if run == "" {
		return
	}
	l.mu.Lock()
	member := l.run == run
	l.mu.Unlock()
	hard, cancel := context.WithTimeout(hard, leaveTimeout)
	defer cancel()
	pause := backoff.New(leavePause)
	for hard.Err() == nil {
		if bounded(hard, func(ctx context.Context) error { return l.Store.Leave(ctx, run) }) == nil {
			l.set("")
			return
		}
		if !member {
			return // it may be one: a stop does not wait for the reply to Register
		}
		pause.Sleep(hard)
	}
	l.Log.Info("run could not be ended in redis: its lease will expire", "run", run)
}
