//go:build scale

package scale

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func randomInt(n int64) int64 { return rand.Int64N(n) }

const window = 3 * time.Second

// usage is what Redis has done so far.
type usage struct {
	cpu, bytes          float64
	scripts, scriptUsec float64
	at                  time.Time
}

func used(t *testing.T, c *redis.Client) (u usage) {
	t.Helper()
	info, err := c.Info(t.Context(), "stats", "cpu", "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	u.at = time.Now()
	for l := range strings.SplitSeq(info, "\r\n") {
		name, value, _ := strings.Cut(l, ":")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "used_cpu_sys", "used_cpu_user":
			u.cpu += n
		case "total_net_input_bytes", "total_net_output_bytes":
			u.bytes += n
		}
		if name == "cmdstat_evalsha" { // what a script calls is in its time
			_, _ = fmt.Sscanf(value, "calls=%g,usec=%g", &u.scripts, &u.scriptUsec)
		}
	}
	return u
}

// TestFleet prints what fleets of 10, 100 and 1,000 sidecars ask of one Redis, and
// fails where something grows with the square of the fleet or a death is noticed
// too late.
func TestFleet(t *testing.T) {
	var rows, events []string
	perSidecar := map[int]float64{}
	for _, n := range []int{10, 100, 1000} {
		server := redistest.Start(t, "--maxclients", "20000")
		c := server.Client()
		prefix := "fleet"
		var done atomic.Int64
		members := make([]*member, n)
		for i := range members {
			var err error
			if members[i], err = start(server.Addr, prefix, &done); err != nil {
				t.Fatal(err)
			}
			pause(t.Context(), 2*time.Second/time.Duration(n)) // ticks of a fleet do not fall together
		}
		runs := func() int64 { return c.SCard(t.Context(), prefix+":sidecar:runs").Val() }
		wait.Until(t, "all to be members", func() bool { return runs() == int64(n) })

		measure := func(what string, rate int) {
			ctx, cancel := context.WithCancel(t.Context())
			var producing sync.WaitGroup
			if rate > 0 {
				producing.Go(func() { produce(ctx, c, prefix+":queue", rate) })
				pause(ctx, time.Second)
			}
			before, tasks := used(t, c), done.Load()
			pause(ctx, window)
			after := used(t, c)
			tasks = done.Load() - tasks
			cancel()
			producing.Wait()
			span := after.at.Sub(before.at).Seconds()
			scripts := (after.scripts - before.scripts) / span
			cpu := (after.cpu - before.cpu) / span * 100
			perCall := (after.scriptUsec - before.scriptUsec) / max(1, after.scripts-before.scripts)
			if rate == 0 {
				perSidecar[n] = (after.scriptUsec - before.scriptUsec) / span / float64(n)
			}
			rows = append(rows, line(fmt.Sprint(n), what, fmt.Sprintf("%.0f", float64(tasks)/span), fmt.Sprintf("%.0f", scripts),
				fmt.Sprintf("%.1f", scripts/float64(n)), fmt.Sprintf("%.0f µs", perCall), fmt.Sprintf("%.1f %%", cpu),
				fmt.Sprintf("%.0f KiB/s", (after.bytes-before.bytes)/span/1024/float64(n))))
		}
		measure("idle", 0)
		measure("busy", 2000)

		// The death of some at once, by machines: a third of the fleet.
		deaths := max(1, n/3)
		began := time.Now()
		var killing sync.WaitGroup
		for _, m := range members[:deaths] {
			killing.Go(m.kill)
		}
		killing.Wait()
		killed := time.Since(began)
		members = members[deaths:]
		wait.Until(t, "the dead to be reaped", func() bool { return runs() == int64(len(members)) })
		reaped := time.Since(began)
		if reaped > 10*time.Second+killed {
			t.Errorf("%d sidecars: %d deaths were noticed after %v", n, deaths, reaped)
		}

		// All connections break at once.
		began = time.Now()
		broken := c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Val()
		mark := time.Now().UnixMilli()
		wait.Until(t, "all to be back", func() bool {
			for _, m := range members {
				if m.heard.Load() <= mark {
					return false
				}
			}
			return true
		})
		events = append(events, line(fmt.Sprint(n), fmt.Sprintf("%d: %.1f s", deaths, reaped.Seconds()),
			fmt.Sprintf("%d: %.1f s", broken, time.Since(began).Seconds()), fmt.Sprint(runs() == int64(len(members)))))
		for _, m := range members {
			killing.Go(m.kill)
		}
		killing.Wait()
		server.Stop()
	}
	fmt.Println()
	fmt.Println(line("sidecars", "", "tasks/s", "scripts/s", "per sidecar", "each takes", "Redis' processor", "network per sidecar"))
	fmt.Println(line("---", "---", "---", "---", "---", "---", "---", "---"))
	fmt.Println(strings.Join(rows, "\n"))
	fmt.Println()
	fmt.Println(line("sidecars", "deaths at once, all reaped after", "connections cut at once, all back after", "none given up"))
	fmt.Println(line("---", "---", "---", "---"))
	fmt.Println(strings.Join(events, "\n"))
	if small, large := perSidecar[10], perSidecar[1000]; large > 3*small {
		t.Errorf("an idle sidecar costs Redis %.0f µs of scripts a second among 10 and %.0f among 1,000: that grows with the fleet", small, large)
	}
}

// produce pushes records at a rate.
func produce(ctx context.Context, c *redis.Client, queue string, rate int) {
	const parts = 50
	batch := make([]any, rate/parts)
	for n := 0; ; n++ {
		for i := range batch {
			batch[i] = fmt.Sprintf(`{"task_id":"t%d-%d","session_id":"s"}`, n, i)
		}
		if c.RPush(ctx, queue, batch...).Err() != nil || !pause(ctx, time.Second/parts) {
			return
		}
	}
}
