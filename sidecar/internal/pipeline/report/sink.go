package report

import (
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	// signalWait is the time that the outcome of a death by SIGTERM, SIGINT or SIGHUP waits
	// for a stop that explains it.
	signalWait = time.Second
	// statusWait is the time that the outcome of a process with a status other than 0 waits.
	// It is shorter because most such statuses are plain failures: a signal to a process
	// tree reaches all of it within milliseconds.
	statusWait = 200 * time.Millisecond
	// statusAfterStop is the time after the beginning of a stop within which such a status
	// counts as the response to SIGTERM, which takes a program some time.
	statusAfterStop = 5 * time.Second
)

// Sink receives the outcomes of the workers and adds them to a Buffer. It ends the retries
// of a task that has no attempts left, and it excuses deaths that a stop or a reload has
// caused. Its methods may be called concurrently.
//
// A service manager, the end of a session and kill -TERM -1 send SIGTERM to the sidecar and
// to its workers at the same moment, in any order: three such stops once used up the three
// attempts of a record. A SIGHUP to the whole tree is a reload: the sidecar replaces its
// workers, and those that do not handle the signal end.
type Sink struct {
	Buffer *Buffer
	// MaxAttempts is the number of attempts of a task whose failure is retryable.
	MaxAttempts int
	// Stop is the stop of the sidecar.
	Stop Stop
	// Hangups are the SIGHUPs to the sidecar.
	Hangups task.Hangups

	waiting sync.WaitGroup // outcomes that wait for a stop that explains them
}

// Stop tells when a stop has begun.
type Stop interface {
	// Begun returns a channel that is closed when the stop begins.
	Begun() <-chan struct{}
	// Age returns the time since the stop began. It must not be called before.
	Age() time.Duration
}

// Add adds an outcome.
func (s *Sink) Add(o task.Outcome) {
	s.limitRetries(&o)
	if !s.awaitExcuse(&o) {
		s.Buffer.Add(o)
	}
}

// AddAll adds outcomes that workers have answered. None of them may be a death.
func (s *Sink) AddAll(os []task.Outcome) {
	for i := range os {
		s.limitRetries(&os[i])
	}
	s.Buffer.AddAll(os)
}

// limitRetries turns a retryable failure into a failure if no attempts are left.
func (s *Sink) limitRetries(o *task.Outcome) {
	if o.Conclusion == task.Retry && o.Reason != RedisUnavailable && o.Task.Attempt >= s.MaxAttempts {
		o.Conclusion = task.Failed
	}
}

// awaitExcuse reports whether an outcome has to wait for a stop or a reload that explains
// it. The Buffer then receives the outcome within signalWait, excused if one has begun. If
// one is known already, awaitExcuse excuses the outcome at once and returns false.
func (s *Sink) awaitExcuse(o *task.Outcome) bool {
	var wait time.Duration
	var hangup, hostHangup <-chan struct{}
	switch o.Exit {
	case task.ExitHangup:
		var sidecar, host bool
		sidecar, hangup = s.Hangups.Recent(signalWait)
		if o.HostHangups != nil {
			host, hostHangup = o.HostHangups.Recent(signalWait)
		}
		if sidecar || host {
			excuse(o, "a reload")
			return false
		}
		wait = signalWait
	case task.ExitSignal:
		wait = signalWait
	case task.ExitStatus:
		wait = statusWait
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
	later := *o
	s.waiting.Go(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-s.Stop.Begun():
			excuse(&later, "a stop")
		case <-later.HostStops:
			excuse(&later, "a stop")
		case <-hangup:
			excuse(&later, "a reload")
		case <-hostHangup:
			excuse(&later, "a reload")
		case <-timer.C:
		}
		s.Buffer.Add(later)
	})
	return true
}

// Settle waits until no outcome waits. It must be called after the workers have ended.
func (s *Sink) Settle() { s.waiting.Wait() }

// excuse makes an outcome return its record at no cost. why names the cause of the death.
func excuse(o *task.Outcome, why string) {
	o.Conclusion, o.Reason, o.Unread, o.Shared, o.Whole, o.MessageJSON = task.Returned, "", false, false, false, nil
	o.Message = "ended by " + why + ": " + o.Message
}
