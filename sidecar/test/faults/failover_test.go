//go:build faults

package faults

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// pair is a master and a replica with a link that can be broken, and a proxy through which
// the sidecars reach the current master.
type pair struct {
	*world
	replica *redistest.Instance
	link    *faultproxy.Proxy // replica to master
	way     *faultproxy.Proxy // sidecars to master
}

func newPair(t *testing.T) *pair {
	t.Helper()
	w := newWorld(t, "--repl-diskless-sync-delay", "0")
	p := &pair{world: w, link: w.newProxy(w.server.Addr), way: w.newProxy(w.server.Addr), replica: redistest.Start(t)}
	var port int
	if _, err := fmt.Sscanf(p.link.Addr(), "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := bounded()
	defer cancel()
	rc := p.replica.Client()
	if err := rc.ReplicaOf(ctx, "127.0.0.1", strconv.Itoa(port)).Err(); err != nil {
		t.Fatal(err)
	}
	wait.Within(t, 20*time.Second, "a replica in step", func() bool {
		ctx, cancel := bounded()
		defer cancel()
		return rc.InfoMap(ctx, "replication").Val()["Replication"]["master_link_status"] == "up"
	})
	return p
}

// caughtUp waits until the replica has everything that the master has.
func (p *pair) caughtUp() {
	p.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	if n, err := p.c.Wait(ctx, 1, 5*time.Second).Result(); err != nil || n != 1 {
		p.t.Errorf("the replica is behind: %d, %v", n, err)
	}
}

// failOver kills the master and makes the replica the new one. Writes that the link held
// back are lost.
func (p *pair) failOver() {
	p.t.Helper()
	p.hurt("failover")
	p.way.Refuse()
	p.killRedis()
	p.link.Refuse()
	ctx, cancel := bounded()
	defer cancel()
	p.c = p.replica.Client()
	if err := p.c.ReplicaOf(ctx, "no", "one").Err(); err != nil {
		p.t.Fatal(err)
	}
	p.way.SetUpstream(p.replica.Addr)
	p.obs.move(p.replica.Addr)
	if err := p.way.Accept(); err != nil {
		p.t.Fatal(err)
	}
}

// failoverRecovery is how soon after a failover all records that it brought back have ended,
// if slots are free.
const failoverRecovery = 10 * time.Second

// TestFailoverWithAnUnreplicatedTail fails over to a replica that lacks the last writes of
// its master. Every record that the replica knows ends exactly once in its data: where a
// report was lost with the master the task runs again, and the barrier counts it once.
func TestFailoverWithAnUnreplicatedTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		long bool // all slots are busy from before the failover until long after it
	}{{"sidecars idle", false}, {"sidecars busy", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.again = 1 // a lost report
			p.crew(3, setup{proxy: p.way})
			p.group(p.work(10, 100)...) // counted and replicated before the failover
			p.settle(10 * time.Second)
			p.group(p.work(12, 200)...)
			wait.Pass(100 * time.Millisecond)
			p.caughtUp()
			p.link.Stall() // the replica gets no write from here on
			if c.long {
				p.settle(10 * time.Second) // all reports reach the master alone
				rs := p.work(6, 1)
				for i := range rs {
					rs[i].Ms = 12_000
				}
				p.group(rs...)
				p.loseFrom(p.lastGroup())
			}
			wait.Pass(time.Duration(500+p.rnd.IntN(500)) * time.Millisecond)
			p.failOver()
			began := time.Now()
			p.group(p.work(8, 100)...)
			within := failoverRecovery
			if c.long {
				within += 12 * time.Second // until a slot is free
			}
			p.settle(within)
			p.outage = machine.Since(began)
			p.verify("Redis failover with an unreplicated tail, " + c.name)
		})
	}
}

// lastGroup returns the id of the latest group.
func (w *world) lastGroup() string { return fmt.Sprintf("g%03d", len(w.groups)) }

// loseFrom removes a group that the new master will not know from the checks.
func (w *world) loseFrom(group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tasks {
		if t.Group == group {
			t.Pushes, t.Unsure = 0, true
		}
	}
	w.groups[group].Over = true
}
