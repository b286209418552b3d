package report_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a Store with configured verdicts.
type store struct {
	mu           sync.Mutex
	calls        []int // sizes
	dispositions []report.Disposition
	down         bool
	applied      map[string]int // by delivery, how often it was settled
	verdict      func(o task.Outcome) report.Verdict
	loseOne      bool // the next call is applied and its reply lost
	fatal        error
	delay        time.Duration
}

func (s *store) Report(_ context.Context, disposition report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	time.Sleep(s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("connection refused")
	}
	s.calls, s.dispositions = append(s.calls, len(batch)), append(s.dispositions, disposition)
	out := make([]report.Verdict, len(batch))
	for i, o := range batch {
		if s.applied[o.Task.Delivery] > 0 {
			out[i] = report.NotInFlight
			continue
		}
		v := s.verdict(o)
		if v != report.Exhausted && v != report.BadGroup {
			s.applied[o.Task.Delivery]++
		}
		out[i] = v
	}
	if s.loseOne {
		s.loseOne = false
		return nil, errors.New("connection reset")
	}
	return out, nil
}

func (s *store) Recover(ctx context.Context, err error) error {
	if s.fatal != nil {
		return s.fatal
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
	return nil
}

func (s *store) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

type bundle struct {
	buffer     *report.Buffer
	store      *store
	settled    map[string]report.Verdict
	kinds      map[string]task.Conclusion
	soft, hard context.CancelFunc
	ended      chan error
}

func start(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{
		buffer:  report.NewBuffer(),
		store:   &store{applied: map[string]int{}, verdict: func(task.Outcome) report.Verdict { return "completed" }},
		settled: map[string]report.Verdict{}, kinds: map[string]task.Conclusion{}, ended: make(chan error, 1),
	}
	loop := &report.Loop{
		Store: b.store, Buffer: b.buffer, Log: slog.New(slog.DiscardHandler),
		OnSettled: func(batch []task.Outcome, verdicts []report.Verdict) {
			if len(batch) == 0 {
				t.Error("nothing is settled")
			}
			for i, o := range batch {
				if _, twice := b.settled[o.Task.Delivery]; twice {
					t.Errorf("%s was settled twice", o.Task.Delivery)
				}
				b.settled[o.Task.Delivery], b.kinds[o.Task.Delivery] = verdicts[i], o.Conclusion
			}
		},
	}
	soft, cancelSoft := context.WithCancel(t.Context())
	hard, cancelHard := context.WithCancel(t.Context())
	b.soft, b.hard = cancelSoft, cancelHard
	go func() { b.ended <- loop.Run(soft, hard) }()
	return b
}

func (b *bundle) finish(t *testing.T) {
	t.Helper()
	b.soft()
	if err := <-b.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	b.hard()
}

func outcome(i int, k task.Conclusion) task.Outcome {
	return task.Outcome{Task: task.Task{Delivery: fmt.Sprint("d", i), Seq: int64(i)}, Conclusion: k}
}

// TestDispositions: every returned record goes to the head of the queue at once, except
// deferred ones.
func TestDispositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			o    task.Outcome
			want report.Disposition
		}{
			{task.Outcome{Conclusion: task.Succeeded}, report.Ack},
			{task.Outcome{Conclusion: task.Failed}, report.Ack},
			{task.Outcome{Conclusion: task.Dead}, report.Ack},
			{task.Outcome{Conclusion: task.Lost}, report.Requeue},
			{task.Outcome{Conclusion: task.Returned}, report.Requeue},
			{task.Outcome{Conclusion: task.Returned, Isolate: true}, report.Defer},
			{task.Outcome{Conclusion: task.Retry}, report.Defer},
		} {
			b := start(t)
			b.buffer.Add(c.o)
			synctest.Wait()
			b.finish(t)
			if !slices.Equal(b.store.dispositions, []report.Disposition{c.want}) {
				t.Errorf("%v (isolate: %t) goes out by %v, want %v", c.o.Conclusion, c.o.Isolate, b.store.dispositions, c.want)
			}
		}
	})
}

func TestWhatIsReadyGoesInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.delay = time.Millisecond // the first call is under way while the others arrive
		b.buffer.Add(outcome(0, task.Succeeded))
		synctest.Wait()
		for i := 1; i <= 300; i++ {
			b.buffer.Add(outcome(i, task.Failed))
		}
		b.finish(t)
		if fmt.Sprint(b.store.calls) != "[1 256 44]" {
			t.Errorf("calls of sizes %v", b.store.calls)
		}
		if len(b.settled) != 301 || b.buffer.Pending() != 0 {
			t.Errorf("%d settled, %d pending", len(b.settled), b.buffer.Pending())
		}
	})
}

func TestOutcomesOutliveAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.down = true })
		for i := range 10 {
			b.buffer.Add(outcome(i, task.Succeeded))
		}
		time.Sleep(time.Hour)
		if n := b.buffer.Pending(); n != 10 {
			t.Errorf("%d pending after an hour, want all", n)
		}
		b.store.set(func() { b.store.down = false })
		b.finish(t)
		if len(b.settled) != 10 {
			t.Errorf("%d settled", len(b.settled))
		}
	})
}

func TestALostReplyIsNotALateReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.loseOne = true })
		b.buffer.Add(outcome(1, task.Succeeded))
		b.finish(t)
		if b.settled["d1"] != report.Applied {
			t.Errorf("verdict %q", b.settled["d1"])
		}
	})
}

func TestExhaustedAndBadGroupEndAsDead(t *testing.T) {
	for _, v := range []report.Verdict{report.Exhausted, report.BadGroup} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t)
			b.store.verdict = func(o task.Outcome) report.Verdict {
				if o.Conclusion == task.Dead {
					return "dead"
				}
				return v
			}
			b.buffer.Add(outcome(1, task.Lost))
			b.finish(t)
			if b.settled["d1"] != "dead" || b.kinds["d1"] != task.Dead {
				t.Errorf("after %s: %q as %v", v, b.settled["d1"], b.kinds["d1"])
			}
		})
	}
}

func TestHardEndKeepsWhatWasNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.down = true })
		b.buffer.Add(outcome(1, task.Succeeded))
		b.buffer.Add(outcome(2, task.Returned))
		synctest.Wait()
		b.soft()
		time.Sleep(10 * time.Second) // the loop keeps trying
		select {
		case err := <-b.ended:
			t.Fatalf("gave up before its time: %v", err)
		default:
		}
		b.hard()
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		b.buffer.Add(outcome(3, task.Succeeded)) // the last child ends
		if n := len(b.buffer.Undelivered()); n != 3 {
			t.Errorf("%d left, want 3", n)
		}
	})
}

func TestARefusalForGoodEndsTheLoopAndKeepsTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.down, b.store.fatal = true, errors.New("NOPERM") })
		b.buffer.Add(outcome(1, task.Succeeded))
		if err := <-b.ended; !errors.Is(err, b.store.fatal) {
			t.Errorf("ended with %v", err)
		}
		if n := len(b.buffer.Undelivered()); n != 1 {
			t.Errorf("%d left", n)
		}
		b.soft()
		b.hard()
	})
}
