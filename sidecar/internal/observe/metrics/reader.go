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

// reader reads gauges when somebody asks for them.
type reader struct {
	source Source

	mu    sync.Mutex
	queue fleet.Queue
	known bool
	at    time.Time

	depth, oldest, dead                         *prometheus.Desc
	inFlight, slots, children, resident         *prometheus.Desc
	redisUp, reportsPending, paused, isDraining *prometheus.Desc
	logDropped, unreportedBytes                 *prometheus.Desc
}

func newReader(source Source, prefix string) *reader {
	own := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	return &reader{
		source: source,
		// The name that Graflow's autoscaling document uses.
		depth: prometheus.NewDesc("graflow_queue_depth", "Records in the queue.", nil, prometheus.Labels{"key_prefix": prefix}),

		oldest:          own("queue_oldest_task_age_seconds", "Age of the record that has waited longest in the queue; 0 where none waits, and absent where it is not known."),
		dead:            own("dead_letters", "Records that were given up and are kept."),
		inFlight:        own("tasks_in_flight", "Tasks that workers of this sidecar have."),
		slots:           own("slots", "Tasks that this sidecar runs at once."),
		children:        own("children", "Worker processes by state.", "state"),
		resident:        own("child_resident_memory_bytes", "Resident memory of the worker process in a slot, without its own children.", "slot"),
		redisUp:         own("redis_up", "Whether the last operation on Redis succeeded."),
		reportsPending:  own("reports_pending", "Outcomes that Redis has not heard of yet."),
		unreportedBytes: own("unreported_bytes", "Bytes of outcomes that Redis has not heard of yet."),
		paused:          own("paused", "Whether this sidecar was told to claim nothing."),
		isDraining:      own("draining", "Whether this sidecar is stopping."),
		logDropped:      own("log_lines_dropped_total", "Lines of the log that were dropped since its reader stalled or it could not be written."),
	}
}

// Describe is prometheus.Collector's.
func (r *reader) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		r.depth, r.oldest, r.dead, r.inFlight, r.slots, r.children, r.resident, r.redisUp, r.reportsPending, r.paused, r.isDraining,
		r.logDropped, r.unreportedBytes,
	} {
		ch <- d
	}
}

// Collect is prometheus.Collector's. What only Redis knows is left out while it
// does not answer: an old number would look like a true one.
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
	gauge(r.inFlight, float64(self.Busy))
	gauge(r.slots, float64(self.Slots))
	states := map[string]int{fleet.Serving: 0, fleet.Leaving: 0, fleet.Lent: 0}
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
	gauge(r.redisUp, number(!r.source.RedisLost()))
	gauge(r.reportsPending, float64(self.Unreported))
	gauge(r.unreportedBytes, float64(r.source.UnreportedBytes()))
	gauge(r.paused, number(self.Paused))
	gauge(r.isDraining, number(r.source.Draining()))
	ch <- prometheus.MustNewConstMetric(r.logDropped, prometheus.CounterValue, float64(r.source.LogLinesDropped()))
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
