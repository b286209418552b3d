package app

import (
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

const (
	// signalHold is how long the verdict on a death by SIGTERM, SIGINT or SIGHUP is
	// held for a stop that begins after it.
	signalHold = time.Second
	// statusHold is the same for a process that has ended with a status other than 0.
	// It is shorter, since most of those just tell of a failure: a signal to a
	// process tree reaches all of it within milliseconds.
	statusHold = 200 * time.Millisecond
	// statusAfterStop is how long after the beginning of a stop such a status is taken
	// for the answer to a SIGTERM, which a program may need some time for.
	statusAfterStop = 5 * time.Second
)

// stopExcuse tells deaths that a stop has caused from those that are the task's own
// doing. A service manager, the end of a session and kill -TERM -1 send SIGTERM to the
// sidecar and to its workers at the same moment, in any order: three such stops once
// used up the three attempts of a record. Its methods may be called concurrently.
//
// A SIGHUP to the whole tree is a reload: it has the sidecar replace its workers, and
// ends those that do not handle it.
type stopExcuse struct {
	clock   *stopClock
	hangups local.Hangups
	holding sync.WaitGroup
}

// hold reports whether the verdict on an outcome has to wait. Then it gives the outcome
// to file later, within signalHold, and as one that goes back at no cost where a stop has
// begun. Where that is known already the outcome is changed at once.
func (e *stopExcuse) hold(o *task.Outcome, file func(task.Outcome)) bool {
	var patience time.Duration
	var hangup, hostHangup <-chan struct{}
	switch o.Exit {
	case task.ExitHangup:
		var ours, hosts bool
		ours, hangup = e.hangups.Recent(signalHold)
		if o.HostHangups != nil {
			hosts, hostHangup = o.HostHangups.Recent(signalHold)
		}
		if ours || hosts {
			excuse(o, "a reload")
			return false
		}
		patience = signalHold
	case task.ExitSignal:
		patience = signalHold
	case task.ExitStatus:
		patience = statusHold
	case task.ExitOther:
		return false
	}
	select {
	case <-e.clock.began:
		if o.Exit != task.ExitStatus || e.clock.age() < statusAfterStop {
			excuse(o, "a stop")
		}
		return false
	case <-o.HostStops:
		excuse(o, "a stop")
		return false
	default:
	}
	held := *o
	e.holding.Go(func() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-e.clock.began:
			excuse(&held, "a stop")
		case <-held.HostStops:
			excuse(&held, "a stop")
		case <-hangup:
			excuse(&held, "a reload")
		case <-hostHangup:
			excuse(&held, "a reload")
		case <-timer.C:
		}
		file(held)
	})
	return true
}

// settle waits until nothing is held. After a stop has begun, and when the stage that
// hands outcomes on has ended.
func (e *stopExcuse) settle() { e.holding.Wait() }

// excuse has the record go back at no cost. why is what ended the process.
func excuse(o *task.Outcome, why string) {
	o.Kind, o.Reason, o.Unread, o.Shared, o.Whole, o.MessageJSON = task.Returned, "", false, false, false, nil
	o.Message = "ended by " + why + ": " + o.Message
}
