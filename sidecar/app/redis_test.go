package app

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// TestNoOperationIsTriedOnAConnectionKnownToBeDead: Redis sees no connection and
// no command from any of the three loops until a ping has got through, and then
// all of them.
func TestNoOperationIsTriedOnAConnectionKnownToBeDead(t *testing.T) {
	t.Parallel()
	proxy, err := faultproxy.Start(redistest.New(t).Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	cfg := DefaultConfig()
	cfg.Redis.URL, cfg.KeyPrefix, cfg.Log = "redis://"+proxy.Addr()+"/0", redistest.Prefix(t), slog.New(slog.DiscardHandler)
	cfg.Redis.MinIdleConns = 0 // go-redis would dial them by itself
	a := newApp(cfg, hooks{Set: testhook.Set{Pool: func(stage.Options) worker.Pool { return hungWorkers{} }}})
	if err := a.initWorkers(); err != nil {
		t.Fatal(err)
	}
	if a.redis, err = a.newBackend(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.redis.Close() }()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run := redis.NewRunID("w")
	a.lease.Store, a.lease.Log, a.lease.NewRun = a.redis.Leases, a.log, func() string { return run }
	registered := make(chan struct{})
	a.lease.OnRegistered = func(string) { close(registered) }
	ended := make(chan error, 1)
	go func() { ended <- a.lease.Run(ctx) }()
	<-registered
	cancel() // the run is there, and nothing renews it
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	before := len(proxy.Accepted())
	ctx = t.Context()
	operations := map[string]func() error{
		"claim": func() error { _, err := a.redis.Source.Claim(ctx, "nonce", 1); return err },
		"wait":  func() error { _, err := a.redis.Source.Wait(ctx); return err },
		"report": func() error {
			_, err := a.redis.Outcomes.Report(ctx, report.Ack, []task.Outcome{{Task: task.Task{Delivery: run + ".1"}}})
			return err
		},
		"register": func() error { return a.redis.Leases.Register(ctx, run) },
		"renew":    func() error { return a.redis.Leases.Renew(ctx, run) },
		"tick":     func() error { _, err := a.redis.Leases.Tick(ctx, run); return err },
		"unblock":  func() error { return a.redis.unblock(ctx) },
		"leave":    func() error { return a.redis.Leases.Leave(ctx, run) },
	}
	commands := make(chan faultproxy.Command, 100)
	proxy.SetRule(func(c faultproxy.Command) faultproxy.Verdict {
		commands <- c
		return faultproxy.Verdict{}
	})
	a.mon.Failed(syscall.ECONNREFUSED)
	for name, do := range operations {
		if err := do(); !errors.Is(err, link.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(proxy.Accepted()) - before; n > 0 || len(commands) > 0 {
		t.Errorf("%d connections and %d commands while redis was known to be away", n, len(commands))
	}

	// A loop that got this error waits for the ping, and sends nothing to Redis meanwhile.
	recovered := make(chan error, 1)
	go func() { recovered <- a.redis.Source.Recover(ctx, link.ErrUnavailable) }()
	select {
	case err := <-recovered:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	a.mon.OK()
	if err := <-recovered; err != nil {
		t.Error(err)
	}
	for _, name := range []string{"renew", "tick", "claim", "wait", "report", "unblock", "leave"} {
		if err := operations[name](); err != nil {
			t.Errorf("%s with redis there: %v", name, err)
		}
	}
}
