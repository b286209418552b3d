package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/page"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// seen is what others see of this sidecar.
type seen struct {
	host    string
	since   time.Time
	metrics *metrics.Metrics
	http    *web.Server // nil without an address
	web     *web.Page   // nil where there is none

	failures page.Failures

	done, failed atomic.Int64 // tasks
}

// see makes what others see. It listens, so that an address that is taken is
// known at the start.
func (a *App) see() error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	a.seen.host, a.seen.since = host, time.Now().UTC()
	a.seen.metrics = metrics.New(a.cfg.Version, a.cfg.KeyPrefix, a)
	a.mon.Observed = a.seen.metrics.RedisError
	if a.cfg.HTTP.Addr == "" {
		return nil
	}
	o := web.Options{Health: a.health, Self: a.Self, Metrics: a.seen.metrics.Handler(), Log: a.log}
	if a.hooks.backend == nil { // a Redis that is not there has no page
		if a.seen.web, err = a.newPage(); err != nil {
			return errors.Join(err, a.redis.close())
		}
		o.Details, o.Extra, o.Trusted = a.seen.web.Details, a.seen.web, a.seen.web.Admin
	}
	server, err := web.New(a.cfg.HTTP.Addr, o)
	if err != nil {
		if a.seen.web != nil {
			a.seen.web.Close()
		}
		return errors.Join(&config.Error{Err: fmt.Errorf("SIDECAR_HTTP_ADDR: %w", err)}, a.redis.close())
	}
	if a.seen.web != nil {
		a.seen.web.Bind(server.Loopback())
	}
	a.seen.http = server
	a.log.Info("http server listens", "url", server.URL())
	return nil
}

// answering adds the HTTP server's stage: after everybody whose state it shows,
// so that a stop can be watched, and before the connections that it asks Redis
// over.
func (a *App) answering(list []actor) []actor {
	if a.seen.http == nil {
		return list
	}
	before := slices.IndexFunc(list, func(x actor) bool { return x.name == "redis" })
	return slices.Insert(list, before, actor{name: "admin", run: func(soft, _ context.Context) error {
		if a.seen.web == nil {
			return a.seen.http.Serve(soft)
		}
		return a.seen.web.Run(soft, a.seen.http.Serve)
	}})
}

// HTTP is the address that the sidecar answers at, as a URL; "" without one.
func (a *App) HTTP() string {
	if a.seen.http == nil {
		return ""
	}
	return a.seen.http.URL()
}

// reachable is where others may find the HTTP server: one that listens on all
// addresses is found under the host's name.
func (a *App) reachable() string {
	url := a.HTTP()
	if url == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(url[len("http://"):])
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort(a.seen.host, port)
	}
	return url
}

// Self is what this sidecar says of itself, to the registry and to whoever asks.
func (a *App) Self() fleet.Run {
	s := a.Status()
	self := fleet.Run{
		ID: a.lease.Now(), WorkerID: a.cfg.WorkerID, Host: a.seen.host, PID: os.Getpid(), Version: a.cfg.Version,
		Mode: string(a.cfg.Mode), Command: a.program(), State: string(s.State), Since: a.seen.since, Seen: time.Now().UTC(), HTTP: a.reachable(),
		Paused: a.holds.paused(), Slots: a.totalSlots(), Busy: s.InFlight, Waiting: s.Waiting, Unreported: s.Unreported,
		Done: a.seen.done.Load(), Failed: a.seen.failed.Load(),
	}
	if s.State == Running && !s.Ready {
		self.Problem = strings.Join(a.reasons(s), ", ")
	}
	for _, slot := range s.Slots {
		child := fleet.Child{Slot: slot.Slot, Kind: slot.Kind, PID: slot.Pid, State: fleet.Serving}
		switch {
		case slot.Leaving:
			child.State = fleet.Leaving
		case slot.Lent:
			child.State = fleet.Lent
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

// program is the worker's command without its arguments, which may hold secrets.
func (a *App) program() string {
	if len(a.cfg.Kinds) > 0 {
		list := make([]string, len(a.cfg.Kinds))
		for i, k := range a.cfg.Kinds {
			list[i] = k.Pattern + "=" + program(k.Worker)
		}
		return strings.Join(list, " ")
	}
	return program(a.cfg.Worker)
}

func program(w config.Worker) string {
	if w.Name != "" {
		return w.Name
	}
	if len(w.Command) == 0 {
		return ""
	}
	return filepath.Base(w.Command[0])
}

// maxAbout bounds what a run says of itself in the registry. A fleet of hundreds
// with hundreds of slots each would else be megabytes every two seconds.
const maxAbout = 32 << 10

// about is Self for the registry, and a run's entry in Graflow's set of workers.
func (a *App) about(run string) (text []byte, label string) {
	if a.hooks.about != nil {
		return a.hooks.about(run)
	}
	self := a.Self()
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

// health is how this sidecar is, for probes.
func (a *App) health() web.Health {
	s := a.Status()
	stuck := a.Stuck()
	h := web.Health{Alive: stuck == "", Started: s.State != Starting || !a.WorkersExpected(), Reasons: a.reasons(s)}
	if stuck != "" {
		h.Reasons = append(h.Reasons, stuck)
	}
	h.Ready = s.Ready && h.Alive
	return h
}

// reasons say why a sidecar would not run a task now.
func (a *App) reasons(s Status) (reasons []string) {
	add := func(is bool, why string) {
		if is {
			reasons = append(reasons, why)
		}
	}
	missing := s.Workers < a.wanted()
	add(missing && (s.State == Starting || s.State == Running), fmt.Sprintf("%d of %d workers are up", s.Workers, a.wanted()))
	add(s.State == Starting && !missing, "redis has not answered yet")
	add(s.State == Quiet, "told to claim nothing")
	add(a.holds.paused(), "paused")
	add(s.State == Stopping || s.State == Stopped, "stopping")
	add(s.RedisLost, "redis is lost")
	add(s.CrashLoop, "the workers keep dying")
	return reasons
}

// RedisLost reports whether the last operation on Redis failed.
func (a *App) RedisLost() bool { return a.mon.Lost() }

// Draining reports whether a stop has begun.
func (a *App) Draining() bool {
	select {
	case <-a.Stopping():
		return true
	default:
		return false
	}
}

// Resident is the memory of a worker process in bytes.
func (a *App) Resident(pid int) (int64, error) { return local.Resident(pid) }

// LogLinesDropped is how many lines of the log were dropped so far.
func (a *App) LogLinesDropped() int64 {
	if a.cfg.LogLinesDropped == nil {
		return 0
	}
	return a.cfg.LogLinesDropped()
}

// errNoOverview: there is no queue to look at.
var errNoOverview = errors.New("this sidecar has no queue of its own")

// Overview asks Redis what stands in the queue.
func (a *App) Overview(ctx context.Context) (fleet.Queue, error) {
	if a.redis.overview == nil {
		return fleet.Queue{}, errNoOverview
	}
	if a.mon.Away() {
		return fleet.Queue{}, link.ErrAway
	}
	return a.redis.overview(ctx)
}

func (a *App) countReplaced(reason string) { a.seen.metrics.Replaced(reason) }
func (a *App) countMisbehaved(kind string) { a.seen.metrics.Misbehaved(kind) }

// countEnded counts an outcome that Redis has answered for good.
func (a *App) countEnded(o *task.Outcome, v report.Verdict) {
	a.noteFailure(o, v)
	outcome := ""
	switch {
	case v == report.Stale:
		outcome = metrics.Late
	case o.Kind == task.Succeeded:
		outcome = metrics.Success
	case o.Kind == task.Failed && o.Reason == "timeout":
		outcome = metrics.Timeout
	case o.Kind == task.Dead && o.Reason == "invalid":
		outcome = metrics.Invalid
	case o.Kind == task.Failed, o.Kind == task.Dead:
		outcome = metrics.Failure
	case o.Kind == task.Lost:
		outcome = metrics.Lost
	case o.Kind == task.Retry:
		outcome = metrics.Retried
	default:
		return // handed back, and nothing has become of it
	}
	if v != report.Stale && (o.Kind == task.Succeeded || o.Kind == task.Failed || o.Kind == task.Dead) {
		a.seen.done.Add(1)
		if o.Kind != task.Succeeded {
			a.seen.failed.Add(1)
		}
	}
	a.seen.metrics.Ended(outcome, o.Task.Info.CreatedAt, o.StartedAt, o.EndedAt)
}

// totalSlots is how many tasks run at once, over all kinds of worker.
func (a *App) totalSlots() int {
	if len(a.cfg.Kinds) == 0 {
		return a.cfg.Slots
	}
	n := 0
	for _, k := range a.cfg.Kinds {
		n += k.Slots
	}
	return n
}

// newPage makes the page.
func (a *App) newPage() (*web.Page, error) {
	token, err := a.cfg.HTTP.ReadToken()
	if err != nil {
		return nil, err
	}
	o, err := redis.OptionsOf(a.cfg.Redis)
	if err != nil {
		return nil, err
	}
	o.PoolSize, o.MinIdleConns = web.PageConns, 0
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	st, err := a.open(o)
	if err != nil {
		return nil, err
	}
	return web.NewPage(web.PageOptions{
		Store: st, Away: a.mon.Away, Self: a.Self, Failures: &a.seen.failures, Token: token, Hosts: a.cfg.HTTP.Hosts,
		Prefix: a.cfg.KeyPrefix, Version: a.cfg.Version, Log: a.log,
	}), nil
}

// noteFailure enters what did not succeed into the page's list of failures. What
// only went back to the queue did not fail.
func (a *App) noteFailure(o *task.Outcome, v report.Verdict) {
	if v == report.Stale || o.Kind == task.Returned || o.Kind == task.Succeeded {
		return
	}
	var took time.Duration
	if !o.StartedAt.IsZero() {
		took = o.EndedAt.Sub(o.StartedAt)
	}
	a.seen.failures.Add(page.Failure{
		At: o.EndedAt, TaskID: o.Task.Info.TaskID, SessionID: o.Task.Info.SessionID, GroupID: o.Task.Info.GroupID,
		Kind: o.Kind.String(), Reason: o.Reason, Message: o.Message, Stderr: o.Stderr,
		Attempt: o.Task.Attempt, Took: took.Milliseconds(),
	})
}
