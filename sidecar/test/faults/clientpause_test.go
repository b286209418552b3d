//go:build faults

package faults

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestStopWhileRedisPausesClients has Redis hold commands back, as a planned failover does,
// while one sidecar is stopped, one is drained, one is paused by a signal, one is paused by
// a command, and one replaces its workers. Redis does not crash, and each sidecar does what
// it was told.
func TestStopWhileRedisPausesClients(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"write", "all"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			all := w.crew(6, setup{env: []string{"MAX_CONCURRENT_TASKS=1"}})
			stopped, drained, quiet, paused, renewed := all[1], all[2], all[3], all[4], all[5]
			w.group(w.work(20, 50)...)
			w.settle(20 * time.Second)

			w.hurt("CLIENT PAUSE " + mode)
			ctx, cancel := bounded()
			if err := w.c.Do(ctx, "client", "pause", 5000, mode).Err(); err != nil {
				t.Fatal(err)
			}
			cancel()
			wait.Pass(2500 * time.Millisecond) // the waits that began before are over, the next ones held back
			quiet.signal(syscall.SIGTSTP)
			renewed.signal(syscall.SIGHUP)
			w.mu.Lock()
			drained.asked = true
			w.mu.Unlock()
			var wg sync.WaitGroup
			wg.Go(stopped.stop)
			wg.Go(func() { w.command(w.server.Addr, "no sidecar has the id", "drain", drained.id) })
			wg.Go(func() { w.command(w.server.Addr, "", "pause", paused.id) })
			wg.Wait()

			// A command gets an answer only after the pause, so the pause is over.
			ctx, cancel = bounded()
			defer cancel()
			if err := w.c.Set(ctx, w.key("alive"), "yes", 0).Err(); err != nil {
				t.Fatalf("redis has ended: %v", err)
			}
			for _, told := range []struct {
				s    *sidecar
				says string
			}{
				{drained, `"sidecar stopped"`},
				{quiet, `"quiet: no new tasks until SIGCONT"`},
				{paused, `"paused: no new tasks until sidecar resume"`},
				{renewed, `"workers are replaced"`},
			} {
				wait.Within(t, 20*time.Second, told.s.id+" says "+told.says, func() bool { return told.s.says(told.says) })
			}
			from := time.Now()
			w.group(w.work(20, 50)...)
			w.goesOn(from)
			w.claimedNothing(from, quiet, paused)
			w.noRunTakenForDead()
			w.verify("CLIENT PAUSE " + mode + " while sidecars stop, pause and reload")
		})
	}
}

// TestServerWithoutClient runs tasks on a server whose administrator has disabled CLIENT,
// CONFIG and HELLO, and stops the sidecars in time.
func TestServerWithoutClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--rename-command", "CLIENT", "", "--rename-command", "CONFIG", "", "--rename-command", "HELLO", "")
	all := w.crew(2, setup{env: eager})
	w.hurt("a server without CLIENT, CONFIG and HELLO")
	rs := w.work(20, 100)
	rs[0].Kill = "self-start"
	w.group(rs...)
	w.settle(20 * time.Second)
	began := time.Now()
	all[0].stop() // idle: its wait for records cannot be ended by CLIENT UNBLOCK
	if took := machine.Since(began); took > 10*time.Second {
		w.violation("a stop took %v, without CLIENT", took)
	}
	w.goesOn(time.Now())
	w.verify("a server without CLIENT, CONFIG and HELLO")
}

// claimedNothing checks that no task has started in these sidecars since the given time.
func (w *world) claimedNothing(since time.Time, paused ...*sidecar) {
	w.t.Helper()
	events, err := w.hist.Read()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		for _, s := range paused {
			if e.What == history.Started && e.Parent == s.pid() && e.Time().After(since) {
				w.violation("%s runs %s, and was told to claim nothing", s.id, e.Task)
			}
		}
	}
}
