package metrics

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

const (
	// fresh is how long an answer of Redis serves: several scrapers cost no more
	// than one.
	fresh = time.Second
	// patience is for Redis: a scrape that waits for one that is away would be
	// given up by Prometheus, and with it all that is known here.
	patience = time.Second
)

// Source gives the values that are read at each scrape.
type Source interface {
	// Self is this run, from memory.
	Self() fleet.Run
	// Overview asks Redis.
	Overview(ctx context.Context) (fleet.Queue, error)
	// RedisLost says that the last operation failed.
	RedisLost() bool
	// Draining says that a stop has begun.
	Draining() bool
	// Resident is the memory of a process in bytes.
	Resident(pid int) (int64, error)
	// LogLinesDropped is how many lines of the log were dropped so far.
	LogLinesDropped() int64
	// UnreportedBytes is how many bytes of outcomes Redis has not heard of.
	UnreportedBytes() int64
}

// value is a metric without labels that the source gives at each scrape.
type value struct {
	name, help string
	kind       prometheus.ValueType
	read       func(s Source, self fleet.Run) float64
}

// values are the metrics of kind value. docs/architecture.md says how to add one.
var values = []value{
	{
		"tasks_in_flight", "Tasks that workers of this sidecar have.", prometheus.GaugeValue,
		func(_ Source, self fleet.Run) float64 { return float64(self.Busy) },
	},
	{
		"slots", "Tasks that this sidecar runs at once.", prometheus.GaugeValue,
		func(_ Source, self fleet.Run) float64 { return float64(self.Slots) },
	},
	{
		"redis_up", "Whether the last operation on Redis succeeded.", prometheus.GaugeValue,
		func(s Source, _ fleet.Run) float64 { return number(!s.RedisLost()) },
	},
	{
		"reports_pending", "Outcomes that Redis has not heard of yet.", prometheus.GaugeValue,
		func(_ Source, self fleet.Run) float64 { return float64(self.Unreported) },
	},
	{
		"unreported_bytes", "Bytes of outcomes that Redis has not heard of yet.", prometheus.GaugeValue,
		func(s Source, _ fleet.Run) float64 { return float64(s.UnreportedBytes()) },
	},
	{
		"paused", "Whether this sidecar was told to claim nothing.", prometheus.GaugeValue,
		func(_ Source, self fleet.Run) float64 { return number(self.Paused) },
	},
	{
		"draining", "Whether this sidecar is stopping.", prometheus.GaugeValue,
		func(s Source, _ fleet.Run) float64 { return number(s.Draining()) },
	},
	{
		"log_lines_dropped_total", "Lines of the log that were dropped since its reader stalled or it could not be written.", prometheus.CounterValue,
		func(s Source, _ fleet.Run) float64 { return float64(s.LogLinesDropped()) },
	},
}

// reader is the collector of the metrics that are read at each scrape.
type reader struct {
	source Source

	mu    sync.Mutex
	queue fleet.Queue
	known bool
	at    time.Time

	depth, oldest, dead, children, resident *prometheus.Desc

	values []*prometheus.Desc // of those of the same index
}

func newReader(source Source, prefix string) *reader {
	own := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	r := &reader{
		source: source,
		// The name that Graflow's autoscaling document uses.
		depth: prometheus.NewDesc("graflow_queue_depth", "Records in the queue.", nil, prometheus.Labels{"key_prefix": prefix}),

		oldest:   own("queue_oldest_task_age_seconds", "Age of the record that has waited longest in the queue; 0 where none waits, and absent where it is not known."),
		dead:     own("dead_letters", "Records that were given up and are kept."),
		children: own("children", "Worker processes by state.", "state"),
		resident: own("child_resident_memory_bytes", "Resident memory of the worker process in a slot, without its own children.", "slot"),
	}
	for _, v := range values {
		r.values = append(r.values, own(v.name, v.help))
	}
	return r
}

// Describe is prometheus.Collector's.
func (r *reader) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{r.depth, r.oldest, r.dead, r.children, r.resident}, r.values...) {
		ch <- d
	}
}

// Collect is prometheus.Collector's. It leaves out what only Redis knows while Redis
// does not answer: an old number would look like a current one.
func (r *reader) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if q, ok := r.overview(); ok {
		gauge(r.depth, float64(q.Depth))
		switch {
		case q.Depth == 0:
			gauge(r.oldest, 0)
		case q.Oldest != nil:
			gauge(r.oldest, q.Oldest.Seconds())
		}
		gauge(r.dead, float64(q.Dead))
	}
	self := r.source.Self()
	for i, v := range values {
		ch <- prometheus.MustNewConstMetric(r.values[i], v.kind, v.read(r.source, self))
	}
	states := map[string]int{fleet.Serving: 0, fleet.Leaving: 0, fleet.Extra: 0}
	memory := map[int]int64{}
	for _, c := range self.Children {
		states[c.State]++
		if bytes, err := r.source.Resident(c.PID); err == nil {
			memory[c.Slot] += bytes // a slot has two while one takes over from the other
		}
	}
	for state, n := range states {
		gauge(r.children, float64(n), state)
	}
	for slot, bytes := range memory {
		gauge(r.resident, float64(bytes), strconv.Itoa(slot))
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (r *reader) overview() (fleet.Queue, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) < fresh {
		return r.queue, r.known
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := r.source.Overview(ctx)
	r.queue, r.known, r.at = q, err == nil, time.Now()
	return r.queue, r.known
}
