// Package observe says how a sidecar is: to the registry in Redis, to probes, to
// Prometheus, to a watchdog, and to a person in a dump.
package observe

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Options are what an Observability needs.
type Options struct {
	Config   *config.Config
	Snapshot func() Snapshot
	// Run is the id of the run; "" while none is registered.
	Run func() string
	// Stalled is that of a [Watchdog].
	Stalled func() string
}

// Observability is what others see of a sidecar. Its methods may be called
// concurrently.
type Observability struct {
	o       Options
	host    string
	since   time.Time
	metrics *metrics.Metrics
	queue   func(ctx context.Context) (fleet.Queue, error) // nil without a queue

	url          atomic.Pointer[string] // of the HTTP server
	done, failed atomic.Int64           // tasks
}

// New makes one.
func New(o Options) *Observability {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b := &Observability{o: o, host: host, since: time.Now().UTC()}
	b.metrics = metrics.New(o.Config.Version, o.Config.KeyPrefix, b)
	return b
}

// ReadQueue sets what asks Redis for the state of the queue; nil where the workers take
// their tasks themselves. It is called before any other method.
func (b *Observability) ReadQueue(read func(ctx context.Context) (fleet.Queue, error)) {
	b.queue = read
}

// ServeAt tells where the HTTP server answers.
func (b *Observability) ServeAt(url string) { b.url.Store(&url) }

// address is where others may find the HTTP server: one that listens on all addresses
// is found under the host's name.
func (b *Observability) address() string {
	url := b.url.Load()
	if url == nil {
		return ""
	}
	host, port, err := net.SplitHostPort((*url)[len("http://"):])
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort(b.host, port)
	}
	return *url
}

// Self is what this sidecar says of itself.
func (b *Observability) Self() fleet.Run {
	s, cfg := b.o.Snapshot(), b.o.Config
	self := fleet.Run{
		ID: b.o.Run(), WorkerID: cfg.WorkerID, Host: b.host, PID: os.Getpid(), Version: cfg.Version,
		Mode: string(cfg.Mode), Command: cfg.Program(), State: string(s.State), Since: b.since, Seen: time.Now().UTC(), HTTP: b.address(),
		Paused: s.Paused, Slots: cfg.TotalSlots(), Busy: s.InFlight, Waiting: s.Waiting, Unreported: s.Unreported,
		Completed: b.done.Load(), Failed: b.failed.Load(),
	}
	switch {
	case s.State == Running && !s.Ready:
		self.Problem = strings.Join(s.Problems(), ", ")
	case s.CrashLoop:
		// Workers that die before the first claim is answered keep the state at starting,
		// which alone would hide the reason.
		self.Problem = crashLoop
	}
	for _, slot := range s.Slots {
		child := fleet.Child{Slot: slot.Slot, Kind: slot.Kind, PID: slot.Pid, State: fleet.Serving}
		switch {
		case slot.Leaving:
			child.State = fleet.Leaving
		case slot.Extra:
			child.State = fleet.Extra
		}
		for _, t := range slot.Tasks {
			about := fleet.Task{
				TaskID: t.TaskID, SessionID: t.SessionID, GroupID: t.GroupID, Delivery: t.Delivery, Attempt: t.Attempt,
				Since: t.Started, Waiting: t.Waiting, Message: t.Progress.Message,
			}
			if !t.Progress.At.IsZero() {
				about.Progress = &t.Progress.Fraction
			}
			child.Tasks = append(child.Tasks, about)
		}
		self.Children = append(self.Children, child)
	}
	return self
}

// maxAbout bounds what a run says of itself in the registry. A fleet of hundreds
// with hundreds of slots each would otherwise be megabytes every two seconds.
const maxAbout = 32 << 10

// About is Self for the registry, and a run's entry in Graflow's set of workers.
func (b *Observability) About(run string) (text []byte, label string) {
	self := b.Self()
	self.ID = run
	text, err := json.Marshal(self)
	if err == nil && len(text) > maxAbout {
		self.Children = nil
		text, err = json.Marshal(self)
	}
	if err != nil {
		return nil, ""
	}
	return text, self.Host + ":" + self.ID
}

// Health is how a sidecar is, for probes.
type Health struct {
	// Alive is false where only a new process helps: the sidecar is stalled. It never
	// depends on Redis, or an outage would have every sidecar restarted.
	Alive bool
	// Ready: a task in the queue would be run now.
	Ready bool
	// Started: it has got so far that readiness may be asked for.
	Started bool
	Reasons []string // why it is not ready
}

// Health reads it.
func (b *Observability) Health() Health {
	s := b.o.Snapshot()
	stalled := b.o.Stalled()
	// Workers of other containers come by themselves, and after the sidecar: their pod
	// would wait for itself.
	expected := b.o.Config.Worker.Socket.Path == ""
	h := Health{Alive: stalled == "", Started: s.State != Starting || !expected, Reasons: s.Problems()}
	if stalled != "" {
		h.Reasons = append(h.Reasons, stalled)
	}
	h.Ready = s.Ready && h.Alive
	return h
}

// Metrics are those of the sidecar.
func (b *Observability) Metrics() *metrics.Metrics { return b.metrics }

// Ended counts an outcome that Redis has answered for good. stale says that the
// delivery was another sidecar's by then.
func (b *Observability) Ended(o *task.Outcome, stale bool) {
	outcome := ""
	switch {
	case stale:
		outcome = metrics.Late
	case o.Conclusion == task.Succeeded:
		outcome = metrics.Success
	case o.Conclusion == task.Failed && o.Reason == "timeout":
		outcome = metrics.Timeout
	case o.Conclusion == task.Dead && o.Reason == "invalid":
		outcome = metrics.Invalid
	case o.Conclusion == task.Failed, o.Conclusion == task.Dead:
		outcome = metrics.Failure
	case o.Conclusion == task.Lost:
		outcome = metrics.Lost
	case o.Conclusion == task.Retry:
		outcome = metrics.Retried
	default:
		return // handed back, and nothing has become of it
	}
	if !stale && (o.Conclusion == task.Succeeded || o.Conclusion == task.Failed || o.Conclusion == task.Dead) {
		b.done.Add(1)
		if o.Conclusion != task.Succeeded {
			b.failed.Add(1)
		}
	}
	b.metrics.Ended(outcome, o.Task.Info.CreatedAt, o.StartedAt, o.EndedAt)
}

// The rest is metrics.Source.

var errNoQueue = errors.New("this sidecar has no queue of its own")

// Overview asks Redis what stands in the queue.
func (b *Observability) Overview(ctx context.Context) (fleet.Queue, error) {
	if b.queue == nil {
		return fleet.Queue{}, errNoQueue
	}
	return b.queue(ctx)
}

// RedisLost reports whether the last operation on Redis failed.
func (b *Observability) RedisLost() bool { return b.o.Snapshot().RedisLost }

// Draining reports whether a stop has begun.
func (b *Observability) Draining() bool {
	s := b.o.Snapshot().State
	return s == Stopping || s == Stopped
}

// Resident is the memory of a worker process in bytes.
func (b *Observability) Resident(pid int) (int64, error) { return local.Resident(pid) }

// LogLinesDropped is how many lines of the log were dropped so far.
func (b *Observability) LogLinesDropped() int64 {
	if b.o.Config.LogLinesDropped == nil {
		return 0
	}
	return b.o.Config.LogLinesDropped()
}

// UnreportedBytes is how many bytes of outcomes Redis has not heard of.
func (b *Observability) UnreportedBytes() int64 { return b.o.Snapshot().UnreportedBytes }
