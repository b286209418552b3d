package redis

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// onClient is a Store through NewClient, with a plain client of the server
// beside it.
func onClient(t *testing.T, plain *goredis.Client, co ClientOptions, o Options) *env {
	t.Helper()
	client, err := NewClient(co)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(client, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &env{Store: s, c: plain, t: t, ctx: ctx}
}

// everything goes through all operations once.
func everything(t *testing.T, e *env) {
	t.Helper()
	run, dead := e.run("w"), e.run("d")
	e.barrier("g", 3)
	e.push(numbered(7)...)
	c := e.claim(run, 4)
	same(t, "report", e.report(run,
		done(c[0].Delivery, "a", "1"),
		Report{Delivery: c[1].Delivery, TaskID: "b", GroupID: "g", Dead: &DeadLetter{}},
	), []Verdict{Completed, Dead})
	same(t, "release", e.release(run, lost(c[2], false, 3)), []Released{{Losses: 1}})
	if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c[3].Delivery}}); err != nil {
		t.Fatal(err)
	}
	same(t, "tick", e.tick(run), TickResult{Promoted: 1})
	e.claim(dead, 1)
	if arrived, err := e.Wait(e.ctx, dead, time.Second); !arrived || err != nil {
		t.Errorf("wait: %t, %v", arrived, err)
	}
	same(t, "reap", e.die(run, dead, 3), ReapResult{Returned: 2})
	e.claim(run, 2)
	if n, err := e.Reconcile(e.ctx, run, math.MaxInt64, nil); n != 2 || err != nil {
		t.Errorf("reconcile: %d, %v", n, err)
	}
	if n, err := e.QueueLen(e.ctx); n != 5 || err != nil {
		t.Errorf("queue length %d, %v", n, err)
	}
	same(t, "ping", e.Ping(e.ctx), nil)
	same(t, "leave", e.Leave(e.ctx, run), nil)
}

// unblocks ends a Wait from another connection.
func unblocks(t *testing.T, e *env) {
	t.Helper()
	e.c.Del(e.ctx, e.keys.queue())
	run := e.run("u")
	result := e.waiting(e.ctx, run, 30*time.Second)
	wait.Until(t, "a blocked client", func() bool { return e.blocked() == 1 })
	if err := e.Unblock(e.ctx); err != nil {
		t.Error(err)
	}
	if got := <-result; got.err != nil || got.took > 5*time.Second {
		t.Errorf("waited %+v", got)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	plain := server.Client()
	ctx := t.Context()
	if err := plain.Do(ctx, "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "a cluster that serves", func() bool { return plain.Set(ctx, "k", "v", 0).Err() == nil })

	e := onClient(t, plain, ClientOptions{Addrs: []string{server.Addr}, Cluster: true}, Options{Prefix: "a{tag}"})
	everything(t, e)
	unblocks(t, e)
	slot := plain.ClusterKeySlot(ctx, "tag").Val()
	for _, key := range e.keysUnder("*") {
		if got := plain.ClusterKeySlot(ctx, key).Val(); got != slot {
			t.Errorf("%s is in slot %d, not %d", key, got, slot)
		}
	}

	client, err := NewClient(ClientOptions{Addrs: []string{server.Addr}, Cluster: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, o := range []Options{{Prefix: "graflow"}, {Prefix: "{}x"}, {Prefix: "{g}", StoreValues: true}, {Prefix: "{g}", Queue: "q"}, {Prefix: "{g}", Queue: "{h}:q"}} {
		if _, err := New(client, o); err == nil {
			t.Errorf("a Cluster with %+v was accepted", o)
		}
	}
}

// TestClusterNode: a sidecar that is sent to one node of a Cluster as if to a
// server of its own gets an error that says so, in whichever way the node refuses:
// it does not have the key that a script is called with, or not the others that
// the script uses.
func TestClusterNode(t *testing.T) {
	t.Parallel()
	const half = 8192
	nodes := []*redistest.Instance{redistest.Start(t, "--cluster-enabled", "yes"), redistest.Start(t, "--cluster-enabled", "yes")}
	ctx := t.Context()
	for i, n := range nodes {
		if err := n.Client().Do(ctx, "cluster", "addslotsrange", i*half, i*half+half-1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes[0].Client().ClusterMeet(ctx, nodes[1].Host, strconv.Itoa(nodes[1].Port)).Err(); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, n := range nodes {
		wait.Until(t, "a node that knows the other", func() bool {
			info, err := n.Client().ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:2")
		})
		e := onClient(t, n.Client(), ClientOptions{URL: n.URL}, Options{Prefix: "graflow"})
		err := e.Register(e.ctx, "w")
		if err == nil { // its few keys are all here
			_, err = e.Claim(e.ctx, "w", "n", 1)
		}
		if Classify(err) != ClassFatal || ClassName(err) != "cluster" || !strings.Contains(err.Error(), "REDIS_ADDRS") {
			t.Errorf("%v (class %d, name %q)", err, Classify(err), ClassName(err))
		}
		if _, is := goredis.IsMovedError(err); is {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d nodes said MOVED: one of them has the first key", moved)
	}
}

// Through a failover that Sentinels lead, a run stays a member and goes on on
// the new master.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", fmt.Sprintf("127.0.0.1 %d", master.Port), "--repl-diskless-sync-delay", "0")
	sentinel := redistest.Start(t, "--sentinel", "--sentinel monitor", fmt.Sprintf("m 127.0.0.1 %d 1", master.Port))
	ctx := t.Context()
	e := onClient(t, master.Client(), ClientOptions{Addrs: []string{sentinel.Addr}, SentinelMaster: "m"}, Options{})
	everything(t, e)
	unblocks(t, e)

	run := e.run("w")
	claimed := e.claimOne(run, "r")
	watch := goredis.NewSentinelClient(&goredis.Options{Addr: sentinel.Addr})
	defer watch.Close()
	wait.Until(t, "a replica that Sentinel knows", func() bool {
		found, err := watch.Replicas(ctx, "m").Result()
		return err == nil && len(found) == 1 && found[0]["master-link-status"] == "ok"
	})
	wait.Until(t, "a replica that has it all", func() bool {
		n, err := replica.Client().HLen(ctx, e.keys.inflight(run)).Result()
		return err == nil && n == 1
	})
	if err := watch.Failover(ctx, "m").Err(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the replica is master", func() bool {
		return replica.Client().Set(ctx, "k", "v", 0).Err() == nil
	})
	wait.Until(t, "the client has followed", func() bool {
		info, err := e.Store.c.Info(ctx, "server").Result()
		return err == nil && strings.Contains(info, fmt.Sprintf("tcp_port:%d\r", replica.Port))
	})
	same(t, "renew", e.Renew(ctx, run), nil)
	e.c = replica.Client()
	same(t, "report", e.report(run, Report{Delivery: claimed.Delivery}), []Verdict{CompletedNoGroup})
	unblocks(t, e)
}

// Sentinels that know no master, since one was taken off and is to be added again,
// are an outage: the reply nil that go-redis wraps is not one to what was asked.
func TestSentinelKnowsNoMaster(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	sentinel := redistest.Start(t, "--sentinel", "--sentinel monitor", fmt.Sprintf("m 127.0.0.1 %d 1", master.Port))
	ctx := t.Context()
	e := onClient(t, master.Client(), ClientOptions{Addrs: []string{sentinel.Addr}, SentinelMaster: "m"}, Options{})
	same(t, "ping", e.Ping(ctx), nil)
	ask := sentinel.Client()
	if err := ask.Do(ctx, "sentinel", "remove", "m").Err(); err != nil {
		t.Fatal(err)
	}
	channel, err := e.Channel("s", "run.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string]func() error{
		"ping":     func() error { return e.Ping(ctx) },
		"claim":    func() error { _, err := e.Claim(ctx, "w", "n", 1); return err },
		"wait":     func() error { _, err := e.Wait(ctx, "w", time.Second); return err },
		"get":      func() error { _, err := channel.Get(ctx, "k"); return err },
		"get many": func() error { _, err := channel.Get(ctx, "k", "l"); return err },
		"exists":   func() error { _, err := channel.Exists(ctx, "k"); return err },
		"result":   func() error { _, _, err := e.Result(ctx, "s", "t"); return err },
		"drop":     func() error { _, err := e.Drop(ctx, "d"); return err },
		"fleet":    func() error { _, err := e.Fleet(ctx); return err },
		"letters":  func() error { _, err := e.DeadLetters(ctx, 1); return err },
	} {
		if err := master.Client().Do(ctx, "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		var got error
		wait.Until(t, name+" sees that the connection is cut", func() bool { got = op(); return got != nil && ClassName(got) != "conn_closed" })
		if Classify(got) != ClassTransient || ClassName(got) != "no_master" || Answered(got) || !strings.Contains(got.Error(), "know no master") {
			t.Errorf("%s: %v (class %d, name %q)", name, got, Classify(got), ClassName(got))
		}
	}
	if err := ask.Do(ctx, "sentinel", "monitor", "m", master.Host, master.Port, 1).Err(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the client has found it", func() bool { return e.Ping(ctx) == nil })
}
