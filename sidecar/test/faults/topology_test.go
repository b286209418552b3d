//go:build faults

package faults

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestSentinelFailover kills the master. Sentinel promotes the replica, and sidecars that know
// only the address of the Sentinel go on there.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--repl-diskless-sync-delay", "0")
	replica := redistest.Start(t, "--replicaof", fmt.Sprintf("127.0.0.1 %d", w.server.Port))
	const name = "the-master"
	sentinel := redistest.Start(t, "--requirepass", "sentinels-own",
		"--sentinel monitor", fmt.Sprintf("%s 127.0.0.1 %d 1", name, w.server.Port),
		"--sentinel down-after-milliseconds", name+" 1000", "--sentinel failover-timeout", name+" 3000", "--sentinel")
	watch := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr, Password: "sentinels-own"})
	defer watch.Close()
	wait.Within(t, 30*time.Second, "a replica that Sentinel knows", func() bool {
		ctx, cancel := bounded()
		defer cancel()
		found, err := watch.Replicas(ctx, name).Result()
		return err == nil && len(found) == 1 && found[0]["master-link-status"] == "ok"
	})
	w.crew(3, setup{where: []string{
		"REDIS_ADDRS=" + sentinel.Addr, "REDIS_SENTINEL_MASTER=" + name, "REDIS_SENTINEL_PASSWORD=sentinels-own",
	}})
	w.again = 1 // a report that the replica did not get
	w.group(w.work(10, 100)...)
	w.settle(10 * time.Second)
	w.group(w.work(12, 300)...)
	wait.Pass(100 * time.Millisecond)
	ctx, cancel := bounded()
	if n, err := w.c.Wait(ctx, 1, 5*time.Second).Result(); err != nil || n != 1 {
		t.Errorf("the replica is behind: %d, %v", n, err)
	}
	cancel()
	w.hurt("the master dies")
	w.killRedis()
	died := time.Now()
	wait.Within(t, 20*time.Second, "a new master", func() bool {
		ctx, cancel := bounded()
		defer cancel()
		where, err := watch.GetMasterAddrByName(ctx, name).Result()
		return err == nil && net.JoinHostPort(where[0], where[1]) == replica.Addr && replica.Client().Set(ctx, "k", "v", 0).Err() == nil
	})
	elected := time.Now()
	w.c = replica.Client()
	w.obs.move(replica.Addr)
	w.group(w.work(8, 100)...)
	w.settle(failoverRecovery)
	w.outage = machine.Since(elected)
	t.Logf("Sentinel took %v to elect, everything was over %v later", elected.Sub(died), w.outage)
	w.verify("Redis failover by Sentinel")
}

// TestRedisCluster gives sidecars the address of one node of a Cluster; they find the node
// that has the queue. That node is restarted while they run, and a sidecar is killed.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	clustered := []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--appendonly", "yes", "--appendfsync", "always"}
	w := newWorldUnder(t, "{faults-%s}", clustered...)
	other := redistest.Start(t, clustered...)
	ctx, cancel := bounded()
	defer cancel()
	const half = 8192
	mine := int(w.c.ClusterKeySlot(ctx, w.prefix).Val()) / half
	for i, n := range []*redistest.Instance{w.server, other} {
		from := half * (i ^ mine) // the world's server has the half with its keys
		if err := n.Client().Do(ctx, "cluster", "addslotsrange", from, from+half-1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.c.ClusterMeet(ctx, other.Host, strconv.Itoa(other.Port)).Err(); err != nil {
		t.Fatal(err)
	}
	up := func() bool {
		ctx, cancel := bounded()
		defer cancel()
		for _, n := range []*redistest.Instance{w.server, other} {
			info, err := n.Client().ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_size:2") {
				return false
			}
		}
		return true
	}
	wait.Within(t, 20*time.Second, "a Cluster that serves", up)
	all := w.crew(3, setup{where: []string{"REDIS_ADDRS=" + other.Addr}})
	for range 2 {
		w.group(w.work(12, 200)...)
		wait.Pass(100 * time.Millisecond)
		w.hurt("the node with the queue dies")
		w.killRedis()
		wait.Pass(3 * time.Second) // the other node replies CLUSTERDOWN by now
		w.server.Restart()
		wait.Within(t, 20*time.Second, "a Cluster that serves again", up)
		w.goesOn(time.Now())
	}
	w.noRunGivenUp()
	rs := w.work(9, 1)
	for i := range rs {
		rs[i].Ms = 1500
	}
	w.group(rs...)
	wait.Within(t, 10*time.Second, "tasks of the victim", func() bool {
		held, err := w.heldBy(all[0].id)
		return err == nil && len(held) > 0
	})
	w.hurt("SIGKILL")
	all[0].signal(syscall.SIGKILL)
	<-all[0].done
	w.settle(20 * time.Second)
	w.verify("Redis Cluster: its node restarted, a sidecar killed")
}
