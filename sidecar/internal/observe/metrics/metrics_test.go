package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
)

type source struct {
	away  atomic.Bool
	queue *fleet.Queue // instead of the usual one
	asked atomic.Int32
}

func (s *source) Self() fleet.Run {
	return fleet.Run{
		Slots: 4, Busy: 2, Unreported: 3, Paused: true, Children: []fleet.Child{
			{Slot: 0, PID: 1, State: fleet.Serving}, {Slot: 0, PID: 2, State: fleet.Leaving}, {Slot: 1, PID: 3, State: fleet.Serving},
		},
	}
}

func (s *source) Overview(context.Context) (fleet.Queue, error) {
	s.asked.Add(1)
	if s.away.Load() {
		return fleet.Queue{}, errors.New("away")
	}
	if s.queue != nil {
		return *s.queue, nil
	}
	return fleet.Queue{Depth: 7, Oldest: new(90 * time.Second), Dead: 5}, nil
}

func (s *source) RedisLost() bool { return s.away.Load() }
func (s *source) Draining() bool  { return false }

func (s *source) LogLinesDropped() int64 { return 9 }
func (s *source) UnreportedBytes() int64 { return 12345 }

func (s *source) Resident(pid int) (int64, error) {
	if pid == 3 {
		return 0, errors.New("gone")
	}
	return int64(pid) * 1000, nil
}

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, text)
	}
	return string(text)
}

func contains(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

func TestEverythingIsThereFromTheStart(t *testing.T) {
	m := metrics.New("1.2.3", "graflow", &source{})
	text := scrape(t, m)
	contains(t, text,
		`graflow_queue_depth{key_prefix="graflow"} 7`, `graflow_sidecar_queue_oldest_task_age_seconds 90`, `graflow_sidecar_dead_letters 5`,
		`graflow_sidecar_tasks_in_flight 2`, `graflow_sidecar_slots 4`, `graflow_sidecar_reports_pending 3`, `graflow_sidecar_unreported_bytes 12345`,
		`graflow_sidecar_children{state="serving"} 2`, `graflow_sidecar_children{state="leaving"} 1`, `graflow_sidecar_children{state="lent"} 0`,
		`graflow_sidecar_child_resident_memory_bytes{slot="0"} 3000`, // both that are in it
		`graflow_sidecar_redis_up 1`, `graflow_sidecar_paused 1`, `graflow_sidecar_draining 0`, `graflow_sidecar_log_lines_dropped_total 9`,
		`graflow_sidecar_tasks_total{outcome="lost"} 0`, `graflow_sidecar_child_restarts_total{reason="crash"} 0`,
		`graflow_sidecar_protocol_errors_total{kind="malformed"} 0`,
	)
	if strings.Contains(text, `slot="1"`) {
		t.Error("the memory of a process that is gone")
	}
	if !strings.Contains(text, `graflow_sidecar_build_info{go_version="`) || !strings.Contains(text, `version="1.2.3"} 1`) {
		t.Error("no build_info")
	}
}

func TestPrometheusRulesForNamesAreKept(t *testing.T) {
	m := metrics.New("1", "p", &source{})
	m.RedisError("timeout")
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestTasksAreCounted(t *testing.T) {
	m := metrics.New("1", "p", &source{})
	started := time.Unix(1732335600, 0)
	m.Ended(metrics.Success, "1732335590.5", started, started.Add(3*time.Second))
	m.Ended(metrics.Timeout, "1732335600.4", started, started.Add(3*time.Second)) // clocks differ
	m.Ended(metrics.Failure, "1.5", started, started.Add(3*time.Second))          // no time at all
	m.Ended(metrics.Failure, "1732335609", started, started.Add(3*time.Second))   // ahead
	m.Ended(metrics.Failure, "", started, started.Add(3*time.Second))
	m.Ended(metrics.Success, "1732335599000", started, started.Add(3*time.Second)) // milliseconds
	m.Ended(metrics.Invalid, "", time.Time{}, started)
	m.Replaced("crash")
	m.Misbehaved("print")
	m.RedisError("conn_refused")
	contains(t, scrape(t, m),
		`graflow_sidecar_tasks_total{outcome="success"} 2`, `graflow_sidecar_tasks_total{outcome="timeout"} 1`,
		`graflow_sidecar_tasks_total{outcome="invalid"} 1`, `graflow_sidecar_tasks_total{outcome="failure"} 3`,
		`graflow_sidecar_task_duration_seconds_count 6`, `graflow_sidecar_task_duration_seconds_bucket{le="5"} 6`,
		`graflow_sidecar_task_duration_seconds_bucket{le="2.5"} 0`,
		`graflow_sidecar_task_queue_wait_seconds_count 3`, `graflow_sidecar_task_queue_wait_seconds_sum 10.5`,
		`graflow_sidecar_child_restarts_total{reason="crash"} 1`, `graflow_sidecar_protocol_errors_total{kind="print"} 1`,
		`graflow_sidecar_redis_errors_total{class="conn_refused"} 1`,
	)
}

// An age that is not known has no sample: 0 would be one.
func TestTheAgeOfTheOldestTask(t *testing.T) {
	const name = "graflow_sidecar_queue_oldest_task_age_seconds"
	for _, c := range []struct {
		name  string
		queue fleet.Queue
		want  string // "" means no sample
	}{
		{"known", fleet.Queue{Depth: 1, Oldest: new(1500 * time.Millisecond)}, name + " 1.5\n"},
		{"not known", fleet.Queue{Depth: 1}, ""},
		{"an empty queue", fleet.Queue{}, name + " 0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := scrape(t, metrics.New("1", "p", &source{queue: &c.queue}))
			contains(t, text, fmt.Sprint(`graflow_queue_depth{key_prefix="p"} `, c.queue.Depth))
			if has := strings.Contains(text, "\n"+name+" "); has != (c.want != "") || !strings.Contains(text, c.want) {
				t.Errorf("a sample: %v, want %q", has, c.want)
			}
		})
	}
}

// An old number would look like a true one.
func TestWhatOnlyRedisKnowsIsLeftOutWhileItIsAway(t *testing.T) {
	src := &source{}
	src.away.Store(true)
	m := metrics.New("1", "p", src)
	text := scrape(t, m)
	contains(t, text, `graflow_sidecar_redis_up 0`, `graflow_sidecar_slots 4`)
	if strings.Contains(text, "graflow_queue_depth{") || strings.Contains(text, "dead_letters 5") {
		t.Error("numbers of a Redis that does not answer")
	}
	scrape(t, m)
	if n := src.asked.Load(); n != 1 {
		t.Errorf("redis was asked %d times for two scrapes in a row", n)
	}
}
