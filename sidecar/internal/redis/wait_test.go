package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// blocked is the number of clients that a Redis holds in blocking commands.
func (e *env) blocked() int {
	e.t.Helper()
	info, err := e.c.InfoMap(e.ctx, "clients").Result()
	if err != nil {
		e.t.Fatal(err)
	}
	n := 0
	if _, err := fmt.Sscan(info["Clients"]["blocked_clients"], &n); err != nil {
		e.t.Fatal(err)
	}
	return n
}

type waited struct {
	arrived bool
	err     error
	took    time.Duration
}

func (e *env) waiting(ctx context.Context, run string, d time.Duration) <-chan waited {
	result := make(chan waited, 1)
	start, clock := time.Now(), machine.Watch(e.t)
	go func() {
		arrived, err := e.Wait(ctx, run, d)
		result <- waited{arrived, err, clock.Since(start)}
	}()
	return result
}

func TestWait(t *testing.T) {
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprintf("right=%t", right), func(t *testing.T) {
			both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
				t.Parallel()
				run := e.run("w")
				arrived, err := e.Wait(e.ctx, run, time.Millisecond) // at least a second
				same(t, "nothing came", []any{arrived, err}, []any{false, nil})

				result := e.waiting(e.ctx, run, 10*time.Second)
				e.push("a")
				got := <-result
				if !got.arrived || got.err != nil || got.took > 5*time.Second {
					t.Errorf("waited %+v", got)
				}
				e.push("b", "c")
				if arrived, err = e.Wait(e.ctx, run, time.Second); !arrived || err != nil {
					t.Errorf("waited %t, %v", arrived, err)
				}
				want := []string{"a", "b", "c"}
				if right {
					want = []string{"a", "c", "b"}
				}
				same(t, "claimed", records(e.claim(run, 9)), want)
			})
		})
	}
}

func TestUnblock(t *testing.T) {
	e := newEnv(t, redistest.Start(t).Client(), Options{})
	run := e.run("w")
	if err := e.Unblock(e.ctx); err != nil {
		t.Errorf("without a wait: %v", err)
	}
	for range 20 { // with and without a connection, blocked or about to be
		soft, cancel := context.WithCancel(e.ctx)
		result := e.waiting(soft, run, 30*time.Second)
		cancel()
		if err := e.Unblock(e.ctx); err != nil {
			t.Fatal(err)
		}
		got := <-result
		if got.arrived || (got.err != nil && !errors.Is(got.err, context.Canceled)) || got.took > 5*time.Second {
			t.Fatalf("waited %+v", got)
		}
		result = e.waiting(e.ctx, run, 30*time.Second)
		wait.Until(t, "a blocked client", func() bool { return e.blocked() == 1 })
		if err := e.Unblock(e.ctx); err != nil {
			t.Fatal(err)
		}
		if got := <-result; got.arrived || got.err != nil || got.took > 5*time.Second {
			t.Fatalf("waited %+v", got)
		}
	}
}

// An idle sidecar says to Redis no more than it must: waits that follow each
// other share a connection and its id.
func TestWaitSharesConnection(t *testing.T) {
	e := newEnv(t, redistest.Start(t).Client(), Options{})
	run := e.run("w")
	e.push("a", "b", "c")
	for range 3 {
		if arrived, err := e.Wait(e.ctx, run, time.Second); !arrived || err != nil {
			t.Fatalf("waited %t, %v", arrived, err)
		}
	}
	if !e.CanUnblock() {
		t.Error("the server has told the id of the client, and it is not known")
	}
	stats := e.c.InfoMap(e.ctx, "commandstats").Val()["Commandstats"]
	if got := stats["cmdstat_client|id"]; !strings.HasPrefix(got, "calls=1,") {
		t.Errorf("CLIENT ID: %s", got)
	}
}

// Without CLIENT UNBLOCK a Wait ends by itself.
func TestUnblockUnknown(t *testing.T) {
	t.Parallel()
	e := onMini(t, Options{})
	run := e.run("w")
	result := e.waiting(e.ctx, run, time.Second)
	wait.Until(t, "a wait that cannot be unblocked", func() bool {
		e.wait.mu.Lock()
		defer e.wait.mu.Unlock()
		return e.wait.done != nil && e.wait.blocked == idNone
	})
	if err := e.Unblock(e.ctx); err != nil {
		t.Error(err)
	}
	if got := <-result; got.arrived || got.err != nil {
		t.Errorf("waited %+v", got)
	}
	if e.CanUnblock() {
		t.Error("it is thought that this wait could have been ended")
	}
}

// Close cuts a Wait short: the last resort of a stop.
func TestCloseEndsWait(t *testing.T) {
	server := redistest.Start(t)
	e := newEnv(t, server.Client(), Options{})
	run := e.run("w")
	own, err := New(goredis.NewClient(e.c.Options()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	waiting := env{Store: own, t: t}
	result := waiting.waiting(e.ctx, run, 30*time.Second)
	wait.Until(t, "a blocked client", func() bool { return e.blocked() == 1 })
	if err := own.Close(); err != nil {
		t.Error(err)
	}
	if got := <-result; got.err == nil || got.took > 5*time.Second {
		t.Errorf("waited %+v", got)
	}
}

// A Wait fails when Redis goes away and works when it is back; a frozen Redis
// holds it for little longer than it was to wait.
func TestWaitOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	e := newEnv(t, server.Client(), Options{})
	run := e.run("w")
	result := e.waiting(e.ctx, run, 30*time.Second)
	wait.Until(t, "a blocked client", func() bool { return e.blocked() == 1 })
	server.Kill()
	if got := <-result; got.err == nil || Classify(got.err) != ClassTransient {
		t.Errorf("Redis killed: %+v", got)
	}
	if _, err := e.Wait(e.ctx, run, time.Second); ClassName(err) != "conn_refused" {
		t.Errorf("Redis not there: %v is %q", err, ClassName(err))
	}
	server.Restart() // with nothing in it
	if _, err := e.Wait(e.ctx, run, time.Second); !errors.Is(err, ErrGone) {
		t.Errorf("Redis back and empty: %v", err)
	}
	if err := e.Register(e.ctx, run); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(e.ctx, run, time.Second); err != nil {
		t.Errorf("Redis back: %v", err)
	}
	result = e.waiting(e.ctx, run, time.Second)
	wait.Until(t, "a blocked client", func() bool { return e.blocked() == 1 })
	server.Freeze()
	if got := <-result; ClassName(got.err) != "timeout" || got.took > 6*time.Second {
		t.Errorf("Redis frozen: %+v", got)
	}
	server.Thaw()
}

// CLIENT PAUSE, which a planned failover sets off by itself, holds a Wait back: its
// end must not bring the server down (Redis 7.0.15 has such a fault), and what the
// command answers afterwards is no answer to a later one. Newer servers (seen: Valkey
// 8.1) do not unblock such a command: there the Wait runs out, and its connection is
// closed.
func TestUnblockWhileRedisPausesClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	e := newEnv(t, server.Client(), Options{})
	run := e.run("w")
	if arrived, err := e.Wait(e.ctx, run, time.Second); arrived || err != nil { // gives the connection and its id
		t.Fatalf("waited %t, %v", arrived, err)
	}
	if err := e.c.Do(e.ctx, "client", "pause", 30_000, "write").Err(); err != nil {
		t.Fatal(err)
	}
	id := e.wait.id
	result := e.waiting(e.ctx, run, 3*time.Second)
	wait.Until(t, "a wait that is held back", func() bool { return e.blocked() == 1 })
	if err := e.Unblock(e.ctx); err != nil {
		t.Error(err)
	}
	if got := <-result; got.arrived || got.err != nil && ClassName(got.err) != "timeout" || got.took > 20*time.Second {
		t.Errorf("waited %+v", got)
	}
	wait.Until(t, "the connection is closed", func() bool {
		list, err := e.c.Do(e.ctx, "client", "list", "id", id).Text()
		if err != nil {
			t.Fatalf("redis has ended: %v", err)
		}
		return strings.TrimSpace(list) == ""
	})
	if err := e.c.Do(e.ctx, "client", "unpause").Err(); err != nil {
		t.Fatal(err)
	}
	e.push("r")
	if arrived, err := e.Wait(e.ctx, run, time.Second); !arrived || err != nil {
		t.Errorf("waited %t, %v", arrived, err)
	}
	same(t, "claimed", records(e.claim(run, 9)), []string{"r"})
}

// Without CLIENT a Wait ends by itself, and everything else works.
func TestWithoutClient(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--rename-command", "CLIENT", "", "--rename-command", "CONFIG", "", "--rename-command", "HELLO", "")
	e := onClient(t, server.Client(), ClientOptions{URL: server.URL, ClientName: "me"}, Options{})
	everything(t, e)
	e.c.Del(e.ctx, e.keys.queue())
	run := e.run("w")
	if arrived, err := e.Wait(e.ctx, run, time.Second); arrived || err != nil {
		t.Errorf("waited %t, %v", arrived, err)
	}
	if e.CanUnblock() {
		t.Error("it is thought that this wait could have been ended")
	}
}

func TestConnectionsHaveAName(t *testing.T) {
	server := redistest.Start(t)
	e := onClient(t, server.Client(), ClientOptions{URL: server.URL, ClientName: "me"}, Options{})
	if err := e.Ping(e.ctx); err != nil {
		t.Fatal(err)
	}
	if list := e.c.ClientList(e.ctx).Val(); !strings.Contains(list, "name=me ") {
		t.Errorf("CLIENT LIST: %s", list)
	}
}
