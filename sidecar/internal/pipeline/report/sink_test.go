package report_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// stop is a Stop for tests.
type stop struct {
	begun chan struct{}
	at    time.Time
}

func newStop() *stop { return &stop{begun: make(chan struct{})} }

func (s *stop) begin() {
	s.at = time.Now()
	close(s.begun)
}

func (s *stop) Begun() <-chan struct{} { return s.begun }
func (s *stop) Age() time.Duration     { return time.Since(s.at) }

// TestADeathThatAStopExplainsCostsNothing: the death of a worker, the stop of the
// sidecar and the stop of the worker's host occur in any order.
func TestADeathThatAStopExplainsCostsNothing(t *testing.T) {
	const never = time.Hour
	for _, c := range []struct {
		name  string
		exit  task.Exit
		kind  task.Conclusion
		stop  time.Duration // the sidecar's, after the death
		host  time.Duration // the worker's host's, after the death
		want  task.Conclusion
		after time.Duration // from the death to the outcome
	}{
		{"SIGTERM, no stop", task.ExitSignal, task.Lost, never, never, task.Lost, time.Second},
		{"SIGTERM, after the stop", task.ExitSignal, task.Lost, -20 * time.Second, never, task.Returned, 0},
		{"SIGTERM, at the stop", task.ExitSignal, task.Lost, 0, never, task.Returned, 0},
		{"SIGTERM, before the stop", task.ExitSignal, task.Lost, 900 * time.Millisecond, never, task.Returned, 900 * time.Millisecond},
		{"SIGTERM, long before the stop", task.ExitSignal, task.Lost, 1100 * time.Millisecond, never, task.Lost, time.Second},
		{"SIGTERM, after the host's stop", task.ExitSignal, task.Lost, never, -time.Second, task.Returned, 0},
		{"SIGTERM, before the host's stop", task.ExitSignal, task.Lost, never, 50 * time.Millisecond, task.Returned, 50 * time.Millisecond},
		{"a failure with 143", task.ExitSignal, task.Failed, 50 * time.Millisecond, never, task.Returned, 50 * time.Millisecond},
		{"a failure, no stop", task.ExitStatus, task.Failed, never, never, task.Failed, 200 * time.Millisecond},
		{"a failure, before the stop", task.ExitStatus, task.Failed, 50 * time.Millisecond, never, task.Returned, 50 * time.Millisecond},
		{"a failure, soon after the stop", task.ExitStatus, task.Retry, -4 * time.Second, never, task.Returned, 0},
		{"a failure, five seconds after the stop", task.ExitStatus, task.Failed, -5 * time.Second, never, task.Failed, 0},
		{"a failure, long after the stop", task.ExitStatus, task.Failed, -6 * time.Second, never, task.Failed, 0},
		{"a crash at the stop", task.ExitOther, task.Lost, 0, 0, task.Lost, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hangups local.Hangups
				box, stop := report.NewBuffer(), newStop()
				f := report.Sink{Buffer: box, MaxAttempts: 3, Stop: stop, Hangups: &hangups}
				host := make(chan struct{})
				time.AfterFunc(c.stop+never, stop.begin)
				time.AfterFunc(c.host+never, func() { close(host) })
				time.Sleep(never)
				synctest.Wait()
				died := time.Now()
				f.Add(task.Outcome{Task: task.Task{Delivery: "w.1", Attempt: 1}, Conclusion: c.kind, Reason: "r", Exit: c.exit, HostStops: host})
				f.Settle()
				left := box.Undelivered()
				if len(left) != 1 || left[0].Conclusion != c.want {
					t.Fatalf("filed as %+v, want %v", left, c.want)
				}
				if got := time.Since(died); got != c.after {
					t.Errorf("filed after %v, want %v", got, c.after)
				}
				time.Sleep(2 * never) // lets the timers of this test end
			})
		})
	}
}

// TestADeathThatAHangupExplainsCostsNothing: SIGHUP to the whole tree is a reload. A
// death by SIGHUP without a reload is an ordinary one.
func TestADeathThatAHangupExplainsCostsNothing(t *testing.T) {
	const never = time.Hour
	for _, c := range []struct {
		name   string
		exit   task.Exit
		hangup time.Duration // the sidecar's, after the death
		stop   time.Duration // the sidecar's, after the death
		want   task.Conclusion
		after  time.Duration // from the death to the outcome
	}{
		{"no hangup", task.ExitHangup, never, never, task.Lost, time.Second},
		{"after it", task.ExitHangup, -900 * time.Millisecond, never, task.Returned, 0},
		{"at it", task.ExitHangup, 0, never, task.Returned, 0},
		{"before it", task.ExitHangup, 900 * time.Millisecond, never, task.Returned, 900 * time.Millisecond},
		{"long before it", task.ExitHangup, 1100 * time.Millisecond, never, task.Lost, time.Second},
		{"long after it", task.ExitHangup, -1100 * time.Millisecond, never, task.Lost, time.Second},
		{"before a stop", task.ExitHangup, never, 500 * time.Millisecond, task.Returned, 500 * time.Millisecond},
		{"long after a stop", task.ExitHangup, never, -20 * time.Second, task.Returned, 0},
		{"before one of its host", task.ExitHangup, never, never, task.Returned, 50 * time.Millisecond},
		{"SIGTERM at a hangup", task.ExitSignal, 0, never, task.Lost, time.Second},
		{"a failure at a hangup", task.ExitStatus, 0, never, task.Lost, 200 * time.Millisecond},
		{"a crash at a hangup", task.ExitOther, 0, never, task.Lost, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hangups local.Hangups
				box, stop := report.NewBuffer(), newStop()
				f := report.Sink{Buffer: box, MaxAttempts: 3, Stop: stop, Hangups: &hangups}
				time.AfterFunc(c.stop+never, stop.begin)
				time.AfterFunc(c.hangup+never, hangups.Note)
				time.Sleep(never)
				synctest.Wait()
				died := time.Now()
				var host local.Hangups
				if c.name == "before one of its host" {
					time.AfterFunc(c.after, host.Note)
				}
				f.Add(task.Outcome{Task: task.Task{Delivery: "w.1", Attempt: 1}, Conclusion: task.Lost, Exit: c.exit, HostHangups: &host})
				f.Settle()
				if left := box.Undelivered(); len(left) != 1 || left[0].Conclusion != c.want {
					t.Fatalf("filed as %+v, want %v", left, c.want)
				}
				if got := time.Since(died); got != c.after {
					t.Errorf("filed after %v, want %v", got, c.after)
				}
				time.Sleep(2 * never) // lets the timers of this test end
			})
		})
	}
}

// TestWhatARetryableFailureBecomes: a retryable failure is retried until the attempts
// are used up; a failure of Redis is retried without limit, since it uses no attempt.
func TestWhatARetryableFailureBecomes(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		attempt      int
		want         task.Conclusion
	}{
		{"the first attempt", "ValueError", 1, task.Retry},
		{"the last but one", "ValueError", 2, task.Retry},
		{"the last", "ValueError", 3, task.Failed},
		{"beyond it, after crashes", "ValueError", 4, task.Failed},
		{"Redis was away", report.RedisUnavailable, 3, task.Retry},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := report.NewBuffer()
			f := report.Sink{Buffer: box, MaxAttempts: 3, Stop: newStop(), Hangups: &local.Hangups{}}
			f.Add(task.Outcome{Task: task.Task{Delivery: "w.1", Attempt: c.attempt}, Conclusion: task.Retry, Reason: c.reason})
			if left := box.Undelivered(); len(left) != 1 || left[0].Conclusion != c.want {
				t.Errorf("filed as %+v, want %v", left, c.want)
			}
		})
	}
}
