package lease

import (
	"context"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
)

// leavePause is between attempts to leave.
var leavePause = backoff.Policy{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}

// leaveAttempts bounds how long a stop waits for a Redis that is gone. Nothing
// hangs on it: by now all that we held is reported or handed back, and what
// Redis still has under our name is found when the lease has run out.
const leaveAttempts = 5

// leaveFor bounds the same where Redis does not even refuse.
const leaveFor = 2 * time.Second

// Leave ends our run: what Redis still has under its name returns to the queue.
// It tries for as long as hard allows. Only after Run has returned, however it
// did: a run whose renewals have failed, or panicked, is left all the same.
func (l *Lease) Leave(hard context.Context) {
	run := l.tried
	if run == "" {
		return
	}
	l.mu.Lock()
	member := l.run == run
	l.mu.Unlock()
	attempts := leaveAttempts
	if !member {
		attempts = 1 // it may be one all the same: a stop does not wait for the reply
	}
	hard, cancel := context.WithTimeout(hard, leaveFor)
	defer cancel()
	pause := backoff.New(leavePause)
	for pause.Failures() < attempts && hard.Err() == nil {
		if bounded(hard, func(ctx context.Context) error { return l.Store.Leave(ctx, run) }) == nil {
			l.set("")
			return
		}
		pause.Sleep(hard)
	}
	if !member {
		return
	}
	l.Log.Info("run could not be ended in redis: its lease will expire", "run", run)
}
