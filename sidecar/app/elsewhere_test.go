package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestAnotherServerBehindTheAddress: a proxy leads the connections of claims and reports
// to a Redis that knows nothing of the run, and does not close them when it leads to the
// right one again. The run is kept, and nothing of it is dropped.
func TestAnotherServerBehindTheAddress(t *testing.T) {
	t.Parallel()
	server, other := redistest.Start(t), redistest.Start(t)
	proxy, err := faultproxy.Start(other.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var log testlog.Buffer
	cfg := DefaultConfig()
	cfg.KeyPrefix, cfg.Log = "two", slog.New(slog.NewTextHandler(&log, nil))
	cfg.Redis.URL = "redis://" + server.Addr + "/0"
	a := newApp(cfg, hooks{Set: testhook.Set{Pool: func(stage.Options) worker.Pool { return hungWorkers{} }}})
	if err := a.initWorkers(); err != nil {
		t.Fatal(err)
	}
	open := func(addr string) *redis.Store {
		t.Helper()
		s, err := redis.Open(&cfg, redis.ClientOptions{URL: "redis://" + addr + "/0", PoolSize: 4})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	connections := &redis.Connections{
		Reports: open(proxy.Addr()), Claims: open(proxy.Addr()),
		Leases: open(server.Addr), Requests: open(server.Addr), Last: open(server.Addr), Stats: open(server.Addr),
	}
	defer connections.Close()
	a.redis = a.pipelineBackend(connections)
	a.lease.Store, a.lease.Log, a.lease.NewRun = a.redis.Leases, a.log, func() string { return redis.NewRunID("w") }
	a.lease.OnFenced = func(run string) { t.Errorf("%s is lost", run) }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	leased, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.lease.Run(leased) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	if _, err := a.lease.Current(ctx); err != nil {
		t.Fatal(err)
	}
	c := server.Client()
	for _, id := range []string{"a", "b"} {
		if err := c.RPush(ctx, "two:queue", `{"task_id":"`+id+`","session_id":"s"}`).Err(); err != nil {
			t.Fatal(err)
		}
	}

	// until repeats an operation as its loop does, and leads to the right server once
	// it was refused several times.
	until := func(what string, recover func(context.Context, error) error, op func() error) {
		t.Helper()
		proxy.SetUpstream(other.Addr)
		refused := 0
		for {
			err := op()
			if err == nil {
				break
			}
			if !errors.Is(err, redis.ErrGone) {
				t.Fatalf("%s: %v", what, err)
			}
			if refused++; refused == 3 {
				proxy.SetUpstream(server.Addr)
			}
			if err := recover(ctx, err); err != nil || ctx.Err() != nil {
				t.Fatalf("%s, refused %d times: %v, %v", what, refused, err, ctx.Err())
			}
		}
		if refused < 3 {
			t.Errorf("%s was refused %d times by a server that knows no run", what, refused)
		}
	}
	var ts []task.Task
	until("claim", a.redis.Source.Recover, func() (err error) {
		ts, err = a.redis.Source.Claim(ctx, "nonce", 2)
		return err
	})
	if len(ts) != 2 {
		t.Fatalf("claimed %d of 2", len(ts))
	}
	outcomes := make([]task.Outcome, len(ts))
	for i := range ts {
		ts[i].Info, _ = task.Decode(ts[i].Record)
		outcomes[i] = task.Outcome{Task: ts[i], Conclusion: task.Succeeded, EndedAt: time.Now(), Value: json.RawMessage(`1`)}
	}
	var verdicts []report.Verdict
	until("report", a.redis.Outcomes.Recover, func() (err error) {
		verdicts, err = a.redis.Outcomes.Report(ctx, report.Ack, outcomes)
		return err
	})
	for _, v := range verdicts {
		if v != "completed-no-group" {
			t.Errorf("verdicts %v", verdicts)
		}
	}
	until("wait", a.redis.Source.Recover, func() error {
		_, err := a.redis.Source.Wait(ctx)
		return err
	})
	if n := strings.Count(log.String(), "two redis servers"); n != 1 {
		t.Errorf("the log tells of two servers %d times:\n%s", n, log.String())
	}
}
