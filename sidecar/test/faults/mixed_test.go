//go:build faults && mixed

package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// A fleet is mixed in the tests that also run without the last release: the sidecars of a
// test, and its commands, are of the last release and of this source in turns.
func init() {
	fleet = func(n int) (string, error) {
		if n%2 == 0 {
			return lastRelease()
		}
		return sidecarBinary()
	}
	sources = append(sources, filepath.Join(os.Getenv("FAULT_LAST_RELEASE"), "source"))
	possible = func() error { _, err := lastRelease(); return err }
}

// lastRelease returns the binary of the last release; scripts/faults builds it.
func lastRelease() (string, error) {
	folder := os.Getenv("FAULT_LAST_RELEASE")
	if folder == "" {
		return "", errors.New("FAULT_LAST_RELEASE is not set: use make faults FLEET=mixed")
	}
	return filepath.Join(folder, "sidecar"), nil
}

// versions is one order of the two versions: what one of them writes to Redis, the other handles.
type versions struct {
	name        string
	first, next func() (string, error)
}

var orders = []versions{
	{"upgrade", lastRelease, sidecarBinary},
	{"downgrade", sidecarBinary, lastRelease},
}

// eachOrder runs a test for both orders of the versions.
func eachOrder(t *testing.T, test func(t *testing.T, p versions)) {
	t.Parallel()
	for _, p := range orders {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			test(t, p)
		})
	}
}

// load pushes groups and single records until it is stopped. The queue stays short, so that
// each sidecar has something to do for as long as it runs.
func (w *world) load() (stop func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		rnd := random(w.t, 30)
		for {
			select {
			case <-over:
				return
			default:
			}
			if left, err := w.unfinished(); err == nil && left > 20 {
				wait.Pass(20 * time.Millisecond)
				continue
			}
			rs := make([]record, 2+rnd.IntN(4))
			for i := range rs {
				rs[i] = record{Ms: 10 + rnd.IntN(200)}
			}
			w.group(rs...)
			w.one(record{Ms: 10 + rnd.IntN(200)})
		}
	})
	return func() { close(over); wg.Wait() }
}

// TestMixedRoll replaces the sidecars of a fleet one by one by those of the other version,
// under load. No task runs twice.
func TestMixedRoll(t *testing.T) {
	eachOrder(t, func(t *testing.T, p versions) {
		w := newWorld(t)
		old := w.crew(3, setup{binary: p.first})
		stop := w.load()
		for _, s := range old {
			w.crew(1, setup{binary: p.next})
			wait.Pass(500 * time.Millisecond) // both versions share the queue
			w.hurt(s.id + " is replaced")
			s.stop()
		}
		stop()
		w.settle(20 * time.Second)
		_, story := w.verify("mixed fleet, rolling " + p.name)
		for id := range w.tasks {
			if n := len(story.Of(id).Starts); n != 1 {
				t.Errorf("%s ran %d times", id, n)
			}
		}
		w.noRunGivenUp()
	})
}

// TestMixedDeaths kills a sidecar with SIGKILL while it runs tasks, and while records wait in
// it: the sidecar of the other version, the only one left, reaps it.
func TestMixedDeaths(t *testing.T) {
	eachOrder(t, func(t *testing.T, p versions) {
		w := newWorld(t)
		survivor := w.crew(1, setup{binary: p.next, spare: true})[0]
		for range 2 {
			victim := w.crew(1, setup{binary: p.first})[0]
			rs := make([]record, 8) // more than both have slots
			for i := range rs {
				rs[i] = record{Ms: 700}
			}
			w.group(rs...)
			wait.Within(t, 20*time.Second, "tasks in the victim", func() bool {
				held, err := w.heldBy(victim.id)
				return err == nil && len(held) >= 2
			})
			w.hurt(victim.id + " is killed")
			victim.kill()
			<-victim.done
			wait.Within(t, 30*time.Second, "the reaping of the victim", func() bool {
				held, err := w.heldBy(victim.id)
				return err == nil && len(held) == 0
			})
		}
		w.settle(20 * time.Second)
		if !survivor.says("taking over the records of a lost sidecar") {
			t.Error("the survivor took nothing over")
		}
		w.verify("mixed fleet, SIGKILL before the " + p.name)
	})
}

// TestMixedPlaces has one version bring records to each place outside of the queue, and the
// other one bring them from there to their end.
func TestMixedPlaces(t *testing.T) {
	eachOrder(t, func(t *testing.T, p versions) {
		t.Run("delayed", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.crew(1, setup{binary: p.first, env: []string{"SIDECAR_RETRY_BASE=4s", "SIDECAR_RETRY_JITTER=0"}})[0]
			w.group(record{Do: "retry"})
			w.card("delayed", 1)
			first.stop()
			w.crew(1, setup{binary: p.next})
			w.settle(20 * time.Second)
			w.verify("mixed fleet, delayed, " + p.name)
		})
		t.Run("isolated", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.crew(1, setup{binary: p.first, env: []string{"SIDECAR_MAX_LENT=4"}})[0]
			long := w.one(record{Do: "gate"})
			w.runs(long)
			suspect := w.suspect(record{})
			w.card("isolated", 1)
			w.crew(1, setup{binary: p.next})
			wait.Within(t, 30*time.Second, "the suspect in the idle sidecar", func() bool { return w.ended(suspect) })
			w.openGate(long)
			w.settle(20 * time.Second)
			if !first.says("set aside") {
				t.Error("the busy sidecar did not set the record aside")
			}
			w.verify("mixed fleet, isolated, " + p.name)
		})
		t.Run("unrouted", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.crew(1, setup{binary: p.first, kinds: []string{"a*"}})[0]
			w.group(record{TaskID: "b1"}, record{TaskID: "a1"})
			wait.Within(t, 20*time.Second, "an unrouted record, and the end of the other one", func() bool {
				ctx, cancel := bounded()
				defer cancel()
				left, err := w.unfinished()
				return err == nil && left == 1 && w.c.LLen(ctx, w.key("sidecar", "unrouted")).Val() == 1
			})
			first.stop()
			w.crew(1, setup{binary: p.next, kinds: []string{"b*"}})
			w.settle(20 * time.Second)
			w.verify("mixed fleet, unrouted, " + p.name)
		})
		t.Run("dead letter", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env := append([]string{"SIDECAR_MAX_ATTEMPTS=1"}, eager...)
			first := w.crew(1, setup{binary: p.first, env: env})[0]
			again, dropped := w.one(record{Kill: "self-start"}), w.one(record{Kill: "self-start"})
			w.card("dead", 2)
			first.stop()
			w.commandOf(p.next, w.server.Addr, "", "dead", "drop", w.letterOf(dropped))
			w.mu.Lock()
			delete(w.tasks, dropped)
			w.mu.Unlock()
			w.requeue(p.next, again)
			w.crew(1, setup{binary: p.next, env: env})
			w.settle(20 * time.Second)
			if !w.ended(again) {
				t.Error("the requeued task did not run to its end")
			}
			w.verify("mixed fleet, dead letters and commands, " + p.name)
		})
		t.Run("commands", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.crew(1, setup{binary: p.first})[0]
			w.commandOf(p.next, w.server.Addr, "", "pause", "--all")
			wait.Within(t, 20*time.Second, "the pause", func() bool { return s.says("paused: no new tasks") })
			waits := w.one(record{})
			if text := w.commandOf(p.next, w.server.Addr, "", "queue", "peek"); !strings.Contains(text, waits) {
				w.violation("the queue does not hold %s: %s", waits, text)
			}
			if text := w.commandOf(p.next, w.server.Addr, "", "status"); !strings.Contains(text, s.id) || !strings.Contains(text, "ALL ARE PAUSED") {
				w.violation("status does not show %s or the pause: %s", s.id, text)
			}
			w.commandOf(p.next, w.server.Addr, "", "resume", "--all")
			w.settle(20 * time.Second)
			w.mu.Lock()
			s.asked = true
			w.mu.Unlock()
			w.commandOf(p.next, w.server.Addr, "", "drain", s.id)
			if !s.ends(20*time.Second) || s.cmd.ProcessState.ExitCode() != 0 {
				w.violation("%s was told to drain: %v", s.id, s.cmd.ProcessState)
			}
			w.verify("mixed fleet, commands, " + p.name)
		})
		t.Run("spool", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
			folder := filepath.Join(w.dir, "spool")
			env := []string{"SIDECAR_SHUTDOWN_TIMEOUT=2s", "SIDECAR_SPOOL_DIR=" + folder}
			first := w.crew(1, setup{binary: p.first, env: env})[0]
			tasks := w.killRedisUnder(first)
			wait.Within(t, 20*time.Second, "the ends of the tasks", func() bool { return w.ended(tasks...) })
			first.stop()
			w.server.Restart()
			w.crew(1, setup{binary: p.next, env: env})
			w.settle(25 * time.Second)
			_, story := w.verify("mixed fleet, spool, " + p.name)
			for _, id := range tasks {
				if n := len(story.Of(id).Starts); n != 1 {
					t.Errorf("%s ran %d times, want once: the spool was not reported", id, n)
				}
			}
			if left, err := filepath.Glob(folder + "/*"); err != nil || len(left) > 0 {
				t.Errorf("left in the spool: %v, %v", left, err)
			}
		})
	})
}

// card waits until a sorted set of the sidecars has n members.
func (w *world) card(name string, n int64) {
	w.t.Helper()
	wait.Within(w.t, 20*time.Second, fmt.Sprintf("%d entries of %s", n, name), func() bool {
		ctx, cancel := bounded()
		defer cancel()
		return w.c.ZCard(ctx, w.key("sidecar", name)).Val() == n
	})
}
