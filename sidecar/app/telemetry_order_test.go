package app

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// fakeTracer notes what it is told, and does not come to its end by itself.
type fakeTracer struct {
	mu       sync.Mutex
	verdicts map[string][]string // by task id
	late     int                 // told after the end
	over     bool
	flushed  bool // the last metrics were sent
	hangs    bool
}

// push is the sender of metrics, which hangs with the other.
func (f *fakeTracer) push(prometheus.Gatherer) func(context.Context) {
	return func(ctx context.Context) {
		if f.hangs {
			<-ctx.Done()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.flushed = true
	}
}

func (f *fakeTracer) Start(t *task.Task) task.Span {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		f.late++
	}
	return &fakeSpan{f}
}

func (f *fakeTracer) Shutdown(ctx context.Context) {
	if f.hangs {
		<-ctx.Done()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
}

type fakeSpan struct{ *fakeTracer }

func (s *fakeSpan) Traceparent() string { return "" }

func (s *fakeSpan) End(o *task.Outcome, verdict string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		s.late++
	}
	s.verdicts[o.Task.Info.TaskID] = append(s.verdicts[o.Task.Info.TaskID], verdict)
}

// A collector that hangs costs a stop one second for both signals, wherever it begins; every
// task's span has ended once by then, and none ends later.
func TestTracesInAStop(t *testing.T) {
	for _, c := range []struct {
		name  string
		hangs bool
		most  time.Duration
	}{
		{"taken", false, 2 * time.Second},
		{"a collector that hangs", true, 2*time.Second + telemetryBudget},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracer := &fakeTracer{hangs: c.hangs, verdicts: map[string][]string{}}
				o := startOrderWith(t, observe.Telemetry{Tracer: tracer, PushMetrics: tracer.push}, "", "", nil)
				time.Sleep(time.Second)
				began := time.Now()
				if err := o.Close(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > c.most || c.hangs && took < telemetryBudget {
					t.Errorf("took %v", took)
				}
				synctest.Wait()
				o.journal.mu.Lock()
				lines := slices.Clone(o.journal.lines)
				o.journal.mu.Unlock()
				var gone []string
				for _, line := range lines {
					if name, what, _ := cutLast(line); what == "gone" && slices.Contains([]string{"leave", "telemetry", "redis"}, name) {
						gone = append(gone, name)
					}
				}
				if !slices.Equal(gone, []string{"leave", "telemetry", "redis"}) {
					t.Errorf("gone: %v", gone)
				}
				if !tracer.over || !tracer.flushed || tracer.late > 0 {
					t.Errorf("over: %t, metrics sent: %t, and told %d times after that", tracer.over, tracer.flushed, tracer.late)
				}
				if len(tracer.verdicts) < orderSlots {
					t.Errorf("spans of %v", tracer.verdicts)
				}
				for id, verdicts := range tracer.verdicts {
					if len(verdicts) != 1 {
						t.Errorf("%s ended with %v", id, verdicts)
					}
				}
			})
		})
	}
}
