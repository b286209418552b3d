// Package metrics is what a sidecar tells Prometheus. It is the only importer of
// Prometheus' client. No metric has a task, a session or a worker as a label:
// those have no end.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Outcomes of tasks, the values of the label outcome.
const (
	Success = "success" // the worker said so
	Failure = "failure" // the worker said so, or the record was given up
	Timeout = "timeout" // a failure at its deadline
	Lost    = "lost"    // the worker died with it: it runs again
	Invalid = "invalid" // the record is none
	Late    = "late"    // the delivery was another sidecar's by then
	Retried = "retried" // it failed and is tried again after a pause
)

// Metrics are those of one sidecar. Methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry

	tasks        map[string]prometheus.Counter
	duration     prometheus.Histogram
	wait         prometheus.Histogram
	replaced     *prometheus.CounterVec
	misbehaviour *prometheus.CounterVec
	redisErrors  *prometheus.CounterVec
	deadTrimmed  *prometheus.CounterVec
}

const namespace = "graflow_sidecar"

// New returns the metrics of a sidecar of this version that serves a key prefix.
func New(version, prefix string, source Source) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), tasks: make(map[string]prometheus.Counter)}
	counter := func(name, help, label string, values ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
		for _, v := range values {
			vec.WithLabelValues(v) // there from the start: an alert on what is not there is silent
		}
		m.registry.MustRegister(vec)
		return vec
	}
	outcomes := []string{Success, Failure, Timeout, Lost, Invalid, Late, Retried}
	tasks := counter("tasks_total", "Deliveries that have ended, by what became of them.", "outcome", outcomes...)
	for _, o := range outcomes {
		m.tasks[o] = tasks.WithLabelValues(o)
	}
	m.replaced = counter("child_restarts_total", "Worker processes that another one took the place of, by why.", "reason",
		"crash", "fault", "start", "recycled")
	m.misbehaviour = counter("protocol_errors_total", "Lines of workers that the protocol does not allow, by what was wrong.", "kind",
		"print", "malformed", "too_long", "stray")
	m.redisErrors = counter("redis_errors_total", "Operations on Redis that failed for a reason that passes, by class.", "class")
	m.deadTrimmed = counter("dead_letters_dropped_total", "Dead letters that this sidecar deleted, by the bound that they exceeded.", "bound", "number", "age")
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
		m.registry.MustRegister(h)
		return h
	}
	m.duration = histogram("task_duration_seconds", "Time from the moment a worker was given a task to its answer.",
		[]float64{.001, .005, .02, .1, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600})
	m.wait = histogram("task_queue_wait_seconds", "Time from a record's created_at, by its producer's clock, to the moment a worker was given it.",
		[]float64{.002, .01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, newReader(source, prefix),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves them to Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 5 * time.Second})
}

// Ended counts a delivery. started is zero for one that no worker was given.
// createdAt is the record's, as it is written there; where it does not tell when the
// record was made no wait is observed.
func (m *Metrics) Ended(outcome, createdAt string, started, ended time.Time) {
	if c, ok := m.tasks[outcome]; ok {
		c.Inc()
	}
	if started.IsZero() {
		return
	}
	if d := ended.Sub(started); d >= 0 {
		m.duration.Observe(d.Seconds())
	}
	if wait, ok := (task.Info{CreatedAt: createdAt}).Age(started); ok && wait < 90*24*time.Hour { // no producer waits so long: a test's record
		m.wait.Observe(wait.Seconds())
	}
}

// Replaced counts a worker process that another one takes the place of.
func (m *Metrics) Replaced(reason string) { m.replaced.WithLabelValues(reason).Inc() }

// Misbehaved counts a breach of the worker protocol.
func (m *Metrics) Misbehaved(kind string) { m.misbehaviour.WithLabelValues(kind).Inc() }

// RedisError counts an operation that failed.
func (m *Metrics) RedisError(class string) { m.redisErrors.WithLabelValues(class).Inc() }

// DeadTrimmed counts dead letters that were deleted: those above the number that is kept,
// and those of the age.
func (m *Metrics) DeadTrimmed(many, old int) {
	m.deadTrimmed.WithLabelValues("number").Add(float64(many))
	m.deadTrimmed.WithLabelValues("age").Add(float64(old))
}
