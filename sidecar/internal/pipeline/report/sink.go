package report

import (
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
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

// Sink takes the outcomes of the workers and hands them to a Box. It decides what a
// retryable failure becomes, and tells deaths that a stop or a reload has caused from
// those that are the task's own doing. Its methods may be called concurrently.
//
// A service manager, the end of a session and kill -TERM -1 send SIGTERM to the sidecar
// and to its workers at the same moment, in any order: three such stops once used up the
// three attempts of a record. A SIGHUP to the whole tree is a reload: it has the sidecar
// replace its workers, and ends those that do not handle it.
type Sink struct {
	Box *Box
	// MaxAttempts is how many attempts a task whose failure is retryable has.
	MaxAttempts int
	// Stop is that of the sidecar.
	Stop Stop
	// Hangups are the SIGHUPs to the sidecar.
	Hangups task.Hangups

	held sync.WaitGroup // outcomes whose verdict waits
}

// Stop is when a stop has begun.
type Stop interface {
	// Begun is closed at the beginning.
	Begun() <-chan struct{}
	// Age is how long ago that was. Only after that.
	Age() time.Duration
}

// Done takes an outcome.
func (s *Sink) Done(o task.Outcome) {
	s.decide(&o)
	if !s.hold(&o) {
		s.Box.Done(o)
	}
}

// DoneAll takes outcomes: answers, of which none is a death.
func (s *Sink) DoneAll(os []task.Outcome) {
	for i := range os {
		s.decide(&os[i])
	}
	s.Box.DoneAll(os)
}

// decide makes a failure of a retryable one that was tried often enough.
func (s *Sink) decide(o *task.Outcome) {
	if o.Kind == task.Retry && o.Reason != RedisUnavailable && o.Task.Attempt >= s.MaxAttempts {
		o.Kind = task.Failed
	}
}

// hold reports whether the verdict on an outcome has to wait. Then the Box gets the
// outcome later, within signalHold, and as one that goes back at no cost where a stop has
// begun. Where that is known already the outcome is changed at once.
func (s *Sink) hold(o *task.Outcome) bool {
	var wait time.Duration
	var hangup, hostHangup <-chan struct{}
	switch o.Exit {
	case task.ExitHangup:
		var ours, hosts bool
		ours, hangup = s.Hangups.Recent(signalHold)
		if o.HostHangups != nil {
			hosts, hostHangup = o.HostHangups.Recent(signalHold)
		}
		if ours || hosts {
			excuse(o, "a reload")
			return false
		}
		wait = signalHold
	case task.ExitSignal:
		wait = signalHold
	case task.ExitStatus:
		wait = statusHold
	case task.ExitOther:
		return false
	}
	select {
	case <-s.Stop.Begun():
		if o.Exit != task.ExitStatus || s.Stop.Age() < statusAfterStop {
			excuse(o, "a stop")
		}
		return false
	case <-o.HostStops:
		excuse(o, "a stop")
		return false
	default:
	}
	held := *o
	s.held.Go(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-s.Stop.Begun():
			excuse(&held, "a stop")
		case <-held.HostStops:
			excuse(&held, "a stop")
		case <-hangup:
			excuse(&held, "a reload")
		case <-hostHangup:
			excuse(&held, "a reload")
		case <-timer.C:
		}
		s.Box.Done(held)
	})
	return true
}

// Settle waits until no verdict waits. Only when the workers have ended.
func (s *Sink) Settle() { s.held.Wait() }

// excuse has the record go back at no cost. why is what ended the process.
func excuse(o *task.Outcome, why string) {
	o.Kind, o.Reason, o.Unread, o.Shared, o.Whole, o.MessageJSON = task.Returned, "", false, false, false, nil
	o.Message = "ended by " + why + ": " + o.Message
}
