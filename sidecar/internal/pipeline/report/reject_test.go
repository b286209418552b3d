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

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// tooLarge is the error of a Redis that rejects values over a limit.
type tooLarge struct{ size int }

func (e tooLarge) Error() string { return e.Explain("argument") }
func (e tooLarge) Explain(what string) string {
	return fmt.Sprintf("%s of %d bytes is too large", what, e.size)
}

// limited is a Store with a limit that records its calls.
type limited struct {
	most  int   // bytes of a value
	link  int   // bytes of a call that get through, 0 for any
	first error // error of the first call
	calls []int // bytes of each accepted call
	order []string
	late  report.Verdict // the verdict of all outcomes, if set
}

func (s *limited) Report(_ context.Context, _ report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	if err := s.first; err != nil {
		s.first = nil
		return nil, err
	}
	bytes := 0
	for _, o := range batch {
		bytes += len(o.Value) + len(o.Message)
		if max(len(o.Value), len(o.Message)) > s.most || len(o.Task.Info.TaskID) > s.most && o.Conclusion != task.Dead {
			return nil, fmt.Errorf("report: %w", tooLarge{max(len(o.Value), len(o.Message), len(o.Task.Info.TaskID))})
		}
	}
	if s.link > 0 && bytes > s.link {
		return nil, errors.New("connection reset")
	}
	s.calls = append(s.calls, bytes)
	verdicts := make([]report.Verdict, len(batch))
	for i, o := range batch {
		s.order = append(s.order, o.Task.Delivery)
		verdicts[i] = "completed"
		if s.late != "" {
			verdicts[i] = s.late
		}
	}
	return verdicts, nil
}

func (s *limited) Recover(context.Context, error) error { return nil }

// settle reports outcomes until all are settled, and returns them by delivery.
func settle(t *testing.T, s *limited, outcomes ...task.Outcome) (map[string]task.Outcome, map[string]report.Verdict, string) {
	t.Helper()
	box := report.NewBuffer()
	box.AddAll(outcomes)
	settled, verdicts := map[string]task.Outcome{}, map[string]report.Verdict{}
	var log strings.Builder
	loop := &report.Loop{
		Store: s, Buffer: box, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnSettled: func(batch []task.Outcome, got []report.Verdict) {
			for i, o := range batch {
				if _, twice := settled[o.Task.Delivery]; twice {
					t.Errorf("%s was settled twice", o.Task.Delivery)
				}
				settled[o.Task.Delivery], verdicts[o.Task.Delivery] = o, got[i]
			}
		},
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := loop.Run(over, t.Context()); err != nil {
		t.Error(err)
	}
	if len(settled) != len(outcomes) {
		t.Errorf("%d of %d outcomes are settled", len(settled), len(outcomes))
	}
	return settled, verdicts, log.String()
}

func valued(i, size int) task.Outcome {
	o := outcome(i, task.Succeeded)
	o.Value = make([]byte, size)
	return o
}

// TestWhatIsRejectedFailsAlone: a result that Redis always rejects becomes a failure of
// its task, and all others are reported in their order.
func TestWhatIsRejectedFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &limited{most: 1000}
		var outcomes []task.Outcome
		for i := range 100 {
			outcomes = append(outcomes, valued(i, 10))
		}
		outcomes[0], outcomes[50], outcomes[99] = valued(0, 2000), valued(50, 3000), valued(99, 4000)
		outcomes[70].Task.Info.TaskID = strings.Repeat("n", 5000)
		settled, _, _ := settle(t, s, outcomes...)
		for i := range 100 {
			o := settled[fmt.Sprint("d", i)]
			kind, message := task.Succeeded, ""
			switch i {
			case 0, 50, 99:
				kind, message = task.Failed, fmt.Sprintf("result of %d bytes is too large", len(outcomes[i].Value))
			case 70:
				kind, message = task.Dead, "name in the record of 5000 bytes is too large"
			}
			if o.Conclusion != kind || o.Message != message {
				t.Errorf("%d: %s, %q", i, o.Conclusion, o.Message)
			}
		}
		var good []string
		for _, d := range s.order {
			if !slices.Contains([]string{"d0", "d50", "d70", "d99"}, d) {
				good = append(good, d)
			}
		}
		for n := 1; n < len(good); n++ {
			var a, b int
			_, _ = fmt.Sscanf(good[n-1]+" "+good[n], "d%d d%d", &a, &b)
			if a > b {
				t.Errorf("%s before %s", good[n-1], good[n])
			}
		}
	})
}

// TestABatchIsBoundedByItsBytes: a batch of one outcome may exceed the bound.
func TestABatchIsBoundedByItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &limited{most: 1 << 30}
		var outcomes []task.Outcome
		for i := range 100 {
			outcomes = append(outcomes, valued(i, 1<<20))
		}
		outcomes[10] = valued(10, 16<<20)
		settle(t, s, outcomes...)
		for _, bytes := range s.calls {
			if bytes > 4<<20 && bytes != 16<<20 {
				t.Errorf("a call of %d bytes", bytes)
			}
		}
		if len(s.calls) > 30 {
			t.Errorf("%d calls", len(s.calls))
		}
	})
}

// TestABatchThatDoesNotGetThroughGoesInParts: a batch that keeps failing is halved.
func TestABatchThatDoesNotGetThroughGoesInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outcomes []task.Outcome
		for i := range 30 {
			outcomes = append(outcomes, valued(i, 1000))
		}
		settle(t, &limited{most: 1 << 30, link: 2500}, outcomes...)
	})
}

// TestStaleIsNoSuccess: a delivery that another sidecar has taken over is never counted
// or logged as a success, unless an earlier call may have been applied.
func TestStaleIsNoSuccess(t *testing.T) {
	for _, c := range []struct {
		name  string
		first error
		late  report.Verdict
		want  report.Verdict
	}{
		{"taken over", nil, report.NotInFlight, report.Stale},
		{"taken over, after a call that was not sent", fmt.Errorf("%w: away", report.ErrUnsent), report.NotInFlight, report.Stale},
		{"applied by the call before", errors.New("connection reset"), report.NotInFlight, report.Applied},
		{"the run was given up", errors.New("connection reset"), report.Stale, report.Stale},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, verdicts, log := settle(t, &limited{most: 10, first: c.first, late: c.late}, valued(1, 1))
			if verdicts["d1"] != c.want {
				t.Errorf("settled as %s", verdicts["d1"])
			}
			if told := strings.Contains(log, "succeeded"); told != (c.want != report.Stale) {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

// TestTextsAreBounded: a failure that Redis rejects for its own text is reported with a
// shorter one.
func TestTextsAreBounded(t *testing.T) {
	o := outcome(1, task.Failed)
	o.Message = "begin" + strings.Repeat("é", 2<<20) + "end"
	o.MessageJSON = []byte(`"` + o.Message + `"`)
	o.Stderr = o.Message
	settled, _, _ := settle(t, &limited{most: 1 << 20}, o)
	got := settled["d1"]
	if len(got.Message) > 64<<10 || len(got.Stderr) > 64<<10 || got.MessageJSON != nil ||
		!strings.HasPrefix(got.Message, "begin") || !strings.HasSuffix(got.Message, "end") || !strings.Contains(got.Message, "bytes left out") {
		t.Errorf("%d bytes, %d in the message as JSON, %d of stderr", len(got.Message), len(got.MessageJSON), len(got.Stderr))
	}
}
