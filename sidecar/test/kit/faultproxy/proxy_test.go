package faultproxy_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.LeakOptions()...) }

// bench is a Redis with a proxy, a client that uses the proxy and one that does not.
type bench struct {
	*faultproxy.Proxy
	t       *testing.T
	ctx     context.Context
	through *redis.Client
	past    *redis.Client
	key     string
}

func setup(t *testing.T) *bench {
	t.Helper()
	server := redistest.New(t)
	p, err := faultproxy.Start(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	through := redis.NewClient(&redis.Options{
		Addr: p.Addr(), MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = through.Close() })
	return &bench{Proxy: p, t: t, ctx: t.Context(), through: through, past: server.Client(), key: redistest.Prefix(t) + ":k"}
}

// only returns a rule that applies a verdict to the first request with one name.
func only(name string, v faultproxy.Verdict) faultproxy.Rule {
	var once sync.Once
	return func(c faultproxy.Command) (out faultproxy.Verdict) {
		if c.Name == name {
			once.Do(func() { out = v })
		}
		return out
	}
}

func (b *bench) value() string { return b.past.Get(b.ctx, b.key).Val() }

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("never: %s", what)
		}
	}
}

func TestActions(t *testing.T) {
	for name, c := range map[string]struct {
		action   faultproxy.Action
		executed string // the counter after one INCR through the proxy
		fails    bool
	}{
		"pass":        {faultproxy.Pass, "1", false},
		"cut before":  {faultproxy.CutBefore, "", true},
		"cut after":   {faultproxy.CutAfter, "1", true},
		"reset after": {faultproxy.ResetAfter, "1", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.SetRule(only("INCR", faultproxy.Verdict{Action: c.action}))
			err := b.through.Incr(b.ctx, b.key).Err()
			if (err != nil) != c.fails {
				t.Errorf("INCR: %v", err)
			}
			if got := b.value(); got != c.executed {
				t.Errorf("the counter is %q, want %q", got, c.executed)
			}
			if err := b.through.Get(b.ctx, b.key).Err(); err != nil && !errors.Is(err, redis.Nil) {
				t.Errorf("the next command: %v", err)
			}
		})
	}
}

func TestSwallowedReplyLeavesTheConnectionOpen(t *testing.T) {
	b := setup(t)
	b.SetRule(only("INCR", faultproxy.Verdict{Action: faultproxy.Swallow}))
	ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
	defer cancel()
	err := b.through.Incr(ctx, b.key).Err()
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("INCR: %v", err)
	}
	if got := b.value(); got != "1" {
		t.Errorf("the counter is %q", got)
	}
}

func TestLateRequestIsExecutedAfterItsClientHasLeft(t *testing.T) {
	b := setup(t)
	b.SetRule(only("INCR", faultproxy.Verdict{Action: faultproxy.Late, Delay: 200 * time.Millisecond}))
	sent := time.Now()
	if err := b.through.Incr(b.ctx, b.key).Err(); err == nil {
		t.Error("the client got a reply")
	}
	if got := b.value(); got != "" && time.Since(sent) < 200*time.Millisecond {
		t.Errorf("the counter is %q at once", got)
	}
	b.eventually("the late INCR", func() bool { return b.value() == "1" })
}

func TestReplied(t *testing.T) {
	b := setup(t)
	seen := make(chan faultproxy.Command, 8)
	b.SetReplied(func(c faultproxy.Command) { seen <- c })
	if err := b.through.Set(b.ctx, b.key, "two\r\nlines", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for c := range seen {
		if c.Name == "SET" {
			if len(c.Args) < 2 || c.Args[0] != b.key || c.Args[1] != "two\r\nlines" {
				t.Errorf("%+v", c)
			}
			return
		}
	}
}

func TestShape(t *testing.T) {
	b := setup(t)
	if err := b.through.Ping(b.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	b.SetShape(faultproxy.Shape{Latency: 20 * time.Millisecond, Jitter: time.Millisecond, Slice: 7, Gap: time.Millisecond})
	began := time.Now()
	long := strings.Repeat("x", 200)
	if got, err := b.through.Echo(b.ctx, long).Result(); err != nil || got != long {
		t.Errorf("%q, %v", got, err)
	}
	if took := time.Since(began); took < 40*time.Millisecond+2*200/7*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestStallHoldsBackAndResumeDelivers(t *testing.T) {
	b := setup(t)
	b.Stall()
	done := make(chan error, 1)
	go func() { done <- b.through.Incr(b.ctx, b.key).Err() }()
	select {
	case err := <-done:
		t.Errorf("answered while stalled: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	b.Resume()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRefuseAndAccept(t *testing.T) {
	b := setup(t)
	if err := b.through.Ping(b.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	before := len(b.Accepted())
	b.Refuse()
	if err := b.through.Ping(b.ctx).Err(); err == nil {
		t.Error("a connection outlived Refuse")
	}
	if _, err := net.Dial("tcp", b.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
	if err := b.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := b.through.Ping(b.ctx).Err(); err != nil {
		t.Errorf("after Accept: %v", err)
	}
	if n := len(b.Accepted()); n <= before {
		t.Errorf("%d connections accepted, %d before", n, before)
	}
}

func TestUpstreamGone(t *testing.T) {
	b := setup(t)
	b.SetUpstream("127.0.0.1:1")
	if err := b.through.Ping(b.ctx).Err(); err == nil {
		t.Error("an answer without a server")
	}
}
