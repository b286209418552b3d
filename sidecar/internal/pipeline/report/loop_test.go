package report_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

var (
	errCut    = errors.New("connection reset")
	errUnsent = fmt.Errorf("%w: connection refused", report.ErrUnsent)
)

// scripted is a Store whose first calls fail as they are told to.
type scripted struct {
	fails   []error // nil means that the call succeeds
	onCall  func(n int)
	onPause func()
	verdict report.Verdict // of all outcomes; "completed" if empty
	calls   []string       // disposition and deliveries of each call
	pauses  int
	refused error // of each pause
}

func (s *scripted) Report(_ context.Context, d report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	var call strings.Builder
	call.WriteString(fmt.Sprint(d))
	for _, o := range batch {
		call.WriteString(" " + o.Task.Delivery)
	}
	s.calls = append(s.calls, call.String())
	if n := len(s.calls); s.onCall != nil {
		s.onCall(n)
	}
	if n := len(s.calls); n <= len(s.fails) && s.fails[n-1] != nil {
		return nil, s.fails[n-1]
	}
	verdict := s.verdict
	if verdict == "" {
		verdict = "completed"
	}
	return slices.Repeat([]report.Verdict{verdict}, len(batch)), nil
}

func (s *scripted) Recover(context.Context, error) error {
	s.pauses++
	if s.onPause != nil {
		s.onPause()
	}
	return s.refused
}

// deliver runs a loop until its buffer is empty or it gives up, and returns the verdicts by
// delivery and what is left.
func deliver(t *testing.T, s *scripted, hard context.Context, outcomes ...task.Outcome) (settled map[string]report.Verdict, left []string, err error) {
	t.Helper()
	box := report.NewBuffer()
	box.AddAll(outcomes)
	settled = map[string]report.Verdict{}
	loop := &report.Loop{Store: s, Buffer: box, Log: slog.New(slog.DiscardHandler), OnSettled: func(batch []task.Outcome, verdicts []report.Verdict) {
		if len(batch) == 0 {
			t.Error("nothing is settled")
		}
		for i, o := range batch {
			settled[o.Task.Delivery] = verdicts[i]
		}
	}}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	err = loop.Run(over, hard)
	for _, o := range box.Undelivered() {
		left = append(left, o.Task.Delivery)
	}
	return settled, left, err
}

// mixed are outcomes of all dispositions.
func mixed() []task.Outcome {
	return []task.Outcome{outcome(1, task.Retry), outcome(2, task.Succeeded), outcome(3, task.Lost), outcome(4, task.Failed)}
}

// TestAMixedBatch goes in one call for each disposition. After the end of the time, and after an
// error for good, the others stay in the buffer.
func TestAMixedBatch(t *testing.T) {
	s := &scripted{}
	settled, left, err := deliver(t, s, t.Context(), mixed()...)
	if want := []string{"0 d2 d4", "1 d3", "2 d1"}; !slices.Equal(s.calls, want) || len(settled) != 4 || len(left) > 0 || err != nil {
		t.Errorf("calls %q, settled %v, left %v, %v", s.calls, settled, left, err)
	}
	s = &scripted{}
	if _, _, err := deliver(t, s, t.Context(), mixed()[:2]...); err != nil || !slices.Equal(s.calls, []string{"0 d2", "2 d1"}) {
		t.Errorf("calls %q, %v", s.calls, err)
	}
	hard, end := context.WithCancel(t.Context())
	s = &scripted{onCall: func(int) { end() }}
	settled, left, err = deliver(t, s, hard, mixed()...)
	if len(s.calls) != 1 || len(settled) != 2 || !slices.Equal(left, []string{"d3", "d1"}) || err != nil {
		t.Errorf("at the end: calls %q, settled %v, left %v, %v", s.calls, settled, left, err)
	}
	s = &scripted{fails: []error{errCut}, refused: errors.New("NOPERM")}
	settled, left, err = deliver(t, s, t.Context(), mixed()...)
	if len(s.calls) != 1 || len(settled) > 0 || len(left) != 4 || err == nil {
		t.Errorf("refused: calls %q, settled %v, left %v, %v", s.calls, settled, left, err)
	}
}

// TestABatchThatFails: it is repeated whole twice, and then goes in halves, with a pause after
// each failure. A rejected one is halved at once. The second half waits for the first.
func TestABatchThatFails(t *testing.T) {
	rejected := tooLarge{1}
	four := []task.Outcome{outcome(1, task.Succeeded), outcome(2, task.Succeeded), outcome(3, task.Succeeded), outcome(4, task.Succeeded)}
	all := "0 d1 d2 d3 d4"
	for name, c := range map[string]struct {
		fails  []error
		want   []string
		pauses int
	}{
		"once":     {[]error{errCut}, []string{all, all}, 1},
		"twice":    {[]error{errCut, errCut}, []string{all, all, all}, 2},
		"again":    {[]error{errCut, errCut, errCut}, []string{all, all, all, "0 d1 d2", "0 d3 d4"}, 3},
		"rejected": {[]error{rejected}, []string{all, "0 d1 d2", "0 d3 d4"}, 0},
	} {
		s := &scripted{fails: c.fails}
		settled, _, err := deliver(t, s, t.Context(), four...)
		if !slices.Equal(s.calls, c.want) || s.pauses != c.pauses || len(settled) != 4 || err != nil {
			t.Errorf("%s: calls %q, %d pauses, settled %v, %v", name, s.calls, s.pauses, settled, err)
		}
	}
	s := &scripted{fails: slices.Repeat([]error{errCut}, 5)}
	if _, _, err := deliver(t, s, t.Context(), four[0]); err != nil || !slices.Equal(s.calls, slices.Repeat([]string{"0 d1"}, 6)) {
		t.Errorf("one alone: calls %q, %v", s.calls, err)
	}
	for name, end := range map[string]bool{"at the end": true, "refused": false} {
		hard, cancel := context.WithCancel(t.Context())
		s = &scripted{fails: []error{rejected, errCut}, refused: errors.New("NOPERM")}
		s.onCall = func(n int) {
			if end && n == 2 {
				cancel()
			}
		}
		settled, left, err := deliver(t, s, hard, four...)
		if len(s.calls) != 2 || len(settled) > 0 || len(left) != 4 || (err == nil) != end || end && s.pauses > 0 {
			t.Errorf("%s: calls %q, settled %v, left %v, %v, %d pauses", name, s.calls, settled, left, err, s.pauses)
		}
		cancel()
	}
	hard, cancel := context.WithCancel(t.Context())
	s = &scripted{fails: []error{errCut}, onPause: cancel}
	if settled, left, err := deliver(t, s, hard, four...); len(s.calls) != 1 || len(settled) > 0 || len(left) != 4 || err != nil {
		t.Errorf("ended in a pause: calls %q, settled %v, left %v, %v", s.calls, settled, left, err)
	}
	hard, cancel = context.WithCancel(t.Context())
	s = &scripted{fails: []error{rejected}}
	s.onCall = func(n int) {
		if n == 2 {
			cancel()
		}
	}
	if settled, left, err := deliver(t, s, hard, four...); len(s.calls) != 2 || len(settled) != 2 || !slices.Equal(left, []string{"d3", "d4"}) || err != nil {
		t.Errorf("ended after the first half: calls %q, settled %v, left %v, %v", s.calls, settled, left, err)
	}
}

// TestARepeatedBatchMayHaveBeenApplied: whatever failed since, and in whichever half.
func TestARepeatedBatchMayHaveBeenApplied(t *testing.T) {
	two := []task.Outcome{outcome(1, task.Succeeded), outcome(2, task.Succeeded)}
	for name, c := range map[string]struct {
		fails []error
		want  report.Verdict
	}{
		"cut":              {[]error{errCut}, report.Applied},
		"cut, then unsent": {[]error{errCut, errUnsent}, report.Applied},
		"cut, in halves":   {[]error{errCut, errUnsent, errUnsent}, report.Applied},
		"unsent":           {[]error{errUnsent, errUnsent, errUnsent}, report.Stale},
	} {
		s := &scripted{fails: c.fails, verdict: report.NotInFlight}
		if settled, _, err := deliver(t, s, t.Context(), two...); settled["d1"] != c.want || settled["d2"] != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, settled, err)
		}
	}
}

// TestWhatIsRejectedIsReducedAtOnce: without a pause. What cannot be reduced is repeated with
// one.
func TestWhatIsRejectedIsReducedAtOnce(t *testing.T) {
	o := valued(1, 10)
	o.Task.Info.TaskID = "a"
	s := &scripted{fails: slices.Repeat([]error{tooLarge{1}}, 6)}
	if settled, _, err := deliver(t, s, t.Context(), o); len(settled) != 1 || err != nil || len(s.calls) != 7 || s.pauses != 4 {
		t.Errorf("settled %v, %v, %d calls, %d pauses", settled, err, len(s.calls), s.pauses)
	}
}

// TestTheLengthOfATextThatIsKept: a text of 64 KiB is not cut, and one that is longer is; each
// for itself.
func TestTheLengthOfATextThatIsKept(t *testing.T) {
	const most = 64 << 10
	for _, c := range []struct{ message, json, stderr int }{{most, most, most + 1}, {most + 1, most, 5}, {5, most + 1, most}} {
		o := outcome(1, task.Failed)
		o.Message, o.MessageJSON, o.Stderr = strings.Repeat("m", c.message), make([]byte, c.json), strings.Repeat("e", c.stderr)
		o.Task.Info.TaskID = "a"
		var got task.Outcome
		box := report.NewBuffer()
		box.Add(o)
		loop := &report.Loop{Store: &scripted{fails: []error{tooLarge{1}}}, Buffer: box, Log: slog.New(slog.DiscardHandler), OnSettled: func(batch []task.Outcome, _ []report.Verdict) { got = batch[0] }}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := loop.Run(over, t.Context()); err != nil {
			t.Fatal(err)
		}
		for what, lengths := range map[string][2]int{"message": {c.message, len(got.Message)}, "JSON": {c.json, len(got.MessageJSON)}, "stderr": {c.stderr, len(got.Stderr)}} {
			if before, after := lengths[0], lengths[1]; (before <= most) != (before == after) {
				t.Errorf("%s of %d bytes has %d", what, before, after)
			}
		}
		if got.Conclusion != task.Failed {
			t.Errorf("ended as %v", got.Conclusion)
		}
	}
	o := outcome(1, task.Failed)
	o.Message, o.Task.Info.TaskID = strings.Repeat("m", most), "a"
	s := &scripted{fails: []error{tooLarge{1}}}
	box := report.NewBuffer()
	box.Add(o)
	var ended task.Conclusion
	loop := &report.Loop{Store: s, Buffer: box, Log: slog.New(slog.DiscardHandler), OnSettled: func(batch []task.Outcome, _ []report.Verdict) { ended = batch[0].Conclusion }}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := loop.Run(over, t.Context()); err != nil || ended != task.Dead {
		t.Errorf("with texts that are kept it ended as %v, %v", ended, err)
	}
}

// TestTheRecordsOfABatchCount: only those that move within Redis.
func TestTheRecordsOfABatchCount(t *testing.T) {
	for c, want := range map[task.Conclusion]int{task.Succeeded: 1, task.Failed: 1, task.Returned: 3, task.Lost: 3, task.Retry: 3, task.Dead: 3} {
		var outcomes []task.Outcome
		for i := range 3 {
			o := outcome(i, c)
			o.Task.Record = make([]byte, 3<<20)
			outcomes = append(outcomes, o)
		}
		s := &scripted{}
		if _, _, err := deliver(t, s, t.Context(), outcomes...); err != nil || len(s.calls) != want {
			t.Errorf("%v: %d calls, %v", c, len(s.calls), err)
		}
	}
}

// TestTheLoopGoesOn: it waits for outcomes until the stop, and knows since when calls fail.
func TestTheLoopGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		box := report.NewBuffer()
		n := 0
		loop := &report.Loop{Store: s, Buffer: box, Log: slog.New(slog.DiscardHandler), OnSettled: func(batch []task.Outcome, _ []report.Verdict) { n += len(batch) }}
		hard, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(t.Context(), hard) }()
		began := time.Now()
		for i := range 3 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if i == 1 {
				s.fails = []error{nil, errCut, errCut, errCut}
				s.onCall = func(n int) {
					if want := began.Add(2 * time.Minute); n > 2 && n <= 5 && !loop.FailingSince().Equal(want) {
						t.Errorf("failing since %v, want %v", loop.FailingSince(), want)
					}
					if n <= 5 {
						time.Sleep(time.Second)
					}
				}
				began = began.Add(time.Second) // the first failure
			}
			box.Add(outcome(i, task.Succeeded))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n != 3 || !loop.FailingSince().IsZero() {
			t.Errorf("%d are settled; failing since %v", n, loop.FailingSince())
		}
		end()
		box.Requeue(task.Task{Delivery: "late"})
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		hard, end := context.WithCancel(t.Context())
		end()
		loop := &report.Loop{Store: &scripted{}, Buffer: report.NewBuffer(), Log: slog.New(slog.DiscardHandler)}
		if err := loop.Run(t.Context(), hard); err != nil { // without an outcome it does not wait for the soft end
			t.Error(err)
		}
	})
}

// TestTheCapacityOfTheBuffer: two batches, or its bytes if they are limited.
func TestTheCapacityOfTheBuffer(t *testing.T) {
	isFull := func(b *report.Buffer) bool {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		return b.WaitCapacity(ended) != nil
	}
	for n, want := range map[int]bool{512: false, 513: true} {
		b := report.NewBuffer()
		for i := range n {
			b.Add(valued(i, 10))
		}
		if got := isFull(b); got != want {
			t.Errorf("full with %d outcomes: %t", n, got)
		}
	}
	for n, want := range map[int]bool{1000: false, 1001: true} {
		b := report.NewBuffer()
		b.MaxBytes = 1000
		b.Add(valued(1, n))
		if got := isFull(b); got != want {
			t.Errorf("full with %d bytes: %t", n, got)
		}
	}
}

// TestTheLevelOfALine: a returned record that was taken over is no loss, an outcome is one.
func TestTheLevelOfALine(t *testing.T) {
	for _, c := range []struct {
		conclusion task.Conclusion
		verdict    report.Verdict
		want       string
	}{
		{task.Lost, report.Returned, `level=WARN msg="task lost with its worker, handed back"`},
		{task.Retry, report.Delayed, `level=WARN msg="task will be tried again"`},
		{task.Returned, report.Returned, `level=DEBUG msg="task handed back"`},
		{task.Failed, report.Stale, `level=WARN msg="outcome dropped: another sidecar has taken the record over"`},
		{task.Lost, report.Stale, `level=DEBUG msg="returned record was taken over before"`},
		{task.Retry, report.Stale, `level=DEBUG msg="returned record was taken over before"`},
	} {
		var log testlog.Buffer
		box := report.NewBuffer()
		box.Add(outcome(1, c.conclusion))
		loop := &report.Loop{
			Store: &scripted{verdict: c.verdict}, Buffer: box, OnSettled: func([]task.Outcome, []report.Verdict) {},
			Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := loop.Run(over, t.Context()); err != nil || !log.Has(c.want) {
			t.Errorf("%v, %s: %v, %s", c.conclusion, c.verdict, err, log.String())
		}
	}
}

// TestDeathsWithoutAHost: a worker of the sidecar itself has no host that could hang up. A loss
// is no failure, however many attempts are used.
func TestDeathsWithoutAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := report.NewBuffer()
		f := report.Sink{Buffer: box, MaxAttempts: 3, Stop: newStop(), Hangups: &local.Hangups{}}
		f.Add(task.Outcome{Task: task.Task{Delivery: "w.1", Attempt: 4}, Conclusion: task.Lost, Exit: task.ExitHangup})
		var host local.Hangups
		host.Note()
		f.Add(task.Outcome{Task: task.Task{Delivery: "w.2", Attempt: 4}, Conclusion: task.Lost, Exit: task.ExitHangup, HostHangups: &host})
		f.Settle()
		left := box.Undelivered()
		if len(left) != 2 || left[0].Task.Delivery != "w.2" || left[0].Conclusion != task.Returned || left[1].Conclusion != task.Lost {
			t.Errorf("filed as %+v", left)
		}
	})
}
