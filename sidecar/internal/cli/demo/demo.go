// Package demo shows the whole of the sidecar's main job on one machine: an
// embedded Redis, the example workers, and a producer that dispatches groups of
// tasks and waits on their barriers exactly as Graflow's does.
package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// barrierTimeout is Graflow's own (coordination/redis_coordinator.py).
const barrierTimeout = 30 * time.Second

// Worker is one of the example workers, with its tasks.
type Worker struct {
	Name   string
	Setup  func(*config.Worker)                 // its command
	Task   func(i int) (kind string, param any) // the i-th task of a group
	Groups int
	Size   int // tasks a group
}

// Bar is a progress bar.
type Bar interface {
	Set(n int) error
	Finish() error
}

// Options say what to show and where.
type Options struct {
	Config  config.Config // for everything but the worker, the prefix and Redis
	Workers []Worker
	Out     io.Writer
	// Bar makes a progress bar for a worker's tasks; nil prints a line a group.
	Bar func(total int, name string) Bar
}

// Run runs the demo. It fails when a barrier is not reached, a task fails, or
// something does not stop cleanly.
func Run(ctx context.Context, o Options) (err error) {
	var sum summary
	var url string
	for n, w := range o.Workers {
		cfg := o.Config
		cfg.KeyPrefix = "demo:" + w.Name
		cfg.Redis.Embedded, cfg.Redis.URL = n == 0, url // the first one owns Redis
		w.Setup(&cfg.Worker)
		a, startErr := app.Start(ctx, cfg)
		if startErr != nil {
			return startErr
		}
		// The last one to start is the first to stop, and the owner of Redis
		// the last.
		defer func() { err = errors.Join(err, a.Close()) }()
		// Where one ends by itself, Redis with it or not, the barriers are not reached.
		var release context.CancelFunc
		ctx, release = until(ctx, a)
		defer release()
		url = a.RedisURL()
		select {
		case <-a.Ready():
		case <-a.Done():
			return a.Wait()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := produce(ctx, o, url, cfg.KeyPrefix, w, &sum); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
	sum.print(o.Out)
	if sum.failures > 0 {
		return fmt.Errorf("%d of %d tasks failed", sum.failures, sum.tasks)
	}
	return nil
}

// errEnded is why the producer gives up; the sidecar's own error says more.
var errEnded = errors.New("a sidecar of the demo has ended by itself")

// until returns a context that ends with ctx, or when the sidecar has begun to stop.
func until(ctx context.Context, a *app.App) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-a.Stopping():
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-over }
}

// produce plays the producer for one worker.
func produce(ctx context.Context, o Options, url, prefix string, w Worker, sum *summary) (err error) {
	client, err := redis.NewClient(redis.ClientOptions{URL: url})
	if err != nil {
		return err
	}
	s, err := redis.New(client, redis.Options{Prefix: prefix})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	var bar Bar
	if o.Bar != nil {
		bar = o.Bar(w.Groups*w.Size, w.Name)
	}
	began := time.Now()
	for n := range w.Groups {
		if err := group(ctx, s, w, n, bar, sum); err != nil {
			return err
		}
		if bar == nil {
			fmt.Fprintf(o.Out, "%s: group %d of %d, %d tasks done\n", w.Name, n+1, w.Groups, (n+1)*w.Size)
		}
	}
	sum.took += time.Since(began)
	if bar != nil {
		return bar.Finish()
	}
	return nil
}

// record is what Graflow's producer writes, and parameters for the examples.
type record struct {
	TaskID    string  `json:"task_id"`
	SessionID string  `json:"session_id"`
	GraphHash string  `json:"graph_hash"`
	TraceID   string  `json:"trace_id"`
	CreatedAt float64 `json:"created_at"`
	GroupID   string  `json:"group_id"`
	Params    any     `json:"params,omitempty"`
}

// group dispatches one group, waits for its barrier and reads its completions.
func group(ctx context.Context, s *redis.Store, w Worker, n int, bar Bar, sum *summary) (err error) {
	id := fmt.Sprintf("group-%d", n)
	g, err := s.OpenGroup(ctx, id, w.Size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close(context.WithoutCancel(ctx))) }()
	pushed := make(map[string]time.Time, w.Size)
	for i := range w.Size {
		kind, params := w.Task(i)
		now := time.Now()
		r := record{
			TaskID: fmt.Sprintf("%s_%d_%d", kind, n, i), SessionID: "demo", TraceID: "demo", GroupID: id,
			CreatedAt: float64(now.UnixMicro()) / 1e6, Params: params,
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		pushed[r.TaskID] = now
		if err := g.Push(ctx, text); err != nil {
			return err
		}
	}
	if err := await(ctx, g, n*w.Size, bar); err != nil {
		return err
	}
	completions, err := g.Completions(ctx)
	if err != nil {
		return err
	}
	if len(completions) != w.Size {
		return fmt.Errorf("group %s has %d completions for %d tasks", id, len(completions), w.Size)
	}
	for task, c := range completions {
		ended := time.UnixMicro(int64(c.Timestamp * 1e6))
		sum.add(ended.Sub(pushed[task]), c.Success)
	}
	return nil
}

// await waits for the barrier and moves the bar meanwhile.
func await(ctx context.Context, g *redis.Group, before int, bar Bar) error {
	type result struct {
		ok  bool
		err error
	}
	done := make(chan result, 1)
	go func() {
		ok, err := g.Wait(ctx, barrierTimeout)
		done <- result{ok, err}
	}()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case r := <-done:
			if r.err == nil && !r.ok {
				return fmt.Errorf("a barrier was not reached within %v", barrierTimeout)
			}
			return r.err
		case <-look.C:
			if bar == nil {
				continue
			}
			n, err := g.Reached(ctx)
			if err == nil {
				err = bar.Set(before + n)
			}
			if err != nil {
				bar = nil // the barrier itself says what is wrong
			}
		}
	}
}

// summary is what the demo has seen.
type summary struct {
	tasks, failures int
	took            time.Duration
	latencies       []time.Duration // from push to completion
}

func (s *summary) add(latency time.Duration, ok bool) {
	s.tasks++
	if !ok {
		s.failures++
	}
	s.latencies = append(s.latencies, latency)
}

func (s *summary) print(w io.Writer) {
	slices.Sort(s.latencies)
	at := func(q float64) time.Duration {
		return s.latencies[min(int(q*float64(len(s.latencies))), len(s.latencies)-1)].Round(100 * time.Microsecond)
	}
	fmt.Fprintf(w, "%d tasks, %d failures, %.0f tasks/s, from push to completion: p50 %v, p99 %v\n",
		s.tasks, s.failures, float64(s.tasks)/s.took.Seconds(), at(0.50), at(0.99))
}
