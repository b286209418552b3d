//go:build faults

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestRedisForgets makes Redis forget the sidecars, and pushes a record at once, or about the
// time at which they find out. All of these records run.
func TestRedisForgets(t *testing.T) {
	t.Parallel()
	script := func(text string) func(*world, *faultproxy.Proxy) {
		return func(w *world, _ *faultproxy.Proxy) {
			ctx, cancel := bounded()
			defer cancel()
			if err := w.c.Eval(ctx, text, nil, w.prefix).Err(); err != nil && !errors.Is(err, redis.Nil) {
				w.t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		forget func(w *world, way *faultproxy.Proxy)
		all    bool // Redis forgets the queue and the counters, too
		busy   bool // a task is in flight meanwhile
	}{
		{"FLUSHALL", script("return redis.call('FLUSHALL')"), true, false},
		{"SWAPDB", script("redis.call('SELECT', 1) redis.call('FLUSHDB') redis.call('SELECT', 0) return redis.call('SWAPDB', 0, 1)"), true, false},
		{"sidecar's keys deleted", script("for _, k in ipairs(redis.call('KEYS', ARGV[1] .. ':sidecar:*')) do redis.call('DEL', k) end"), false, false},
		{"runs deleted", script("return redis.call('DEL', ARGV[1] .. ':sidecar:runs')"), false, true},
		{"empty failover", (*world).failOverToAnEmptyOne, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			way := w.newProxy(w.server.Addr)
			w.crew(2, setup{proxy: way})
			for turn := range 4 {
				wait.Pass(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
				if c.busy {
					w.again++ // the task in flight runs again, without the death of a sidecar
					w.one(record{Ms: 1000})
					wait.Pass(100 * time.Millisecond)
				}
				w.hurt(c.name)
				w.note(history.Forgot, "", "")
				c.forget(w, way)
				if c.all {
					w.forgetTasks()
				}
				if turn%2 == 1 {
					wait.Pass(time.Duration(w.rnd.IntN(1200)) * time.Millisecond)
				}
				back := time.Now()
				w.one(record{})
				w.goesOn(back)
			}
			w.verify("Redis forgets: " + c.name)
		})
	}
}

// failOverToAnEmptyOne kills the server and puts an empty one in its place.
func (w *world) failOverToAnEmptyOne(way *faultproxy.Proxy) {
	w.t.Helper()
	next := redistest.Start(w.t)
	way.Refuse()
	w.killRedis()
	w.server, w.c = next, next.Client()
	way.SetUpstream(next.Addr)
	w.obs.move(next.Addr)
	if err := way.Accept(); err != nil {
		w.t.Fatal(err)
	}
}

// forgetTasks removes all tasks and groups from the checks, as forget does, but keeps the
// groups' ids in use, so that a new group does not get the history of an old one.
func (w *world) forgetTasks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.tasks {
		p.Pushes, p.Unsure = 0, true
	}
	for _, g := range w.groups {
		g.Over = true
	}
}

const steppingClock = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long long *offset;
__attribute__((constructor)) static void init(void) {
	int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY);
	void *m = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (m != MAP_FAILED) offset = m;
}
int clock_gettime(clockid_t c, struct timespec *t) {
	int r = syscall(SYS_clock_gettime, c, t);
	if (r == 0 && (c == CLOCK_REALTIME || c == CLOCK_REALTIME_COARSE) && offset) t->tv_sec += *offset;
	return r;
}
int gettimeofday(struct timeval *v, void *zone) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	v->tv_sec = t.tv_sec; v->tv_usec = t.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *out) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (out) *out = t.tv_sec;
	return t.tv_sec;
}
`

// steppable starts a Redis and returns it with a function that sets its wall clock off by
// some seconds. It needs a C compiler.
func steppable(t *testing.T) (server *redistest.Instance, step func(seconds int64)) {
	t.Helper()
	dir := t.TempDir()
	source, library, clock, script := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so"), filepath.Join(dir, "clock"), filepath.Join(dir, "redis")
	binary, err := exec.LookPath("redis-server")
	if own := os.Getenv("REDISTEST_BINARY"); own != "" {
		binary, err = own, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(source, steppingClock, 0o600)
	write(clock, strings.Repeat("\x00", 4096), 0o600)
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v: %s", err, out)
	}
	write(script, fmt.Sprintf("#!/bin/sh\nCLOCK_OFFSET=%s LD_PRELOAD=%s exec %s \"$@\"\n", clock, library, binary), 0o700)
	server = redistest.StartBinary(t, script)
	return server, func(seconds int64) {
		f, err := os.OpenFile(clock, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(uint64(seconds) >> (8 * i))
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRedisClockSteps sets the clock of Redis back and ahead while tasks run and wait for
// their next attempts, and kills a sidecar.
func TestRedisClockSteps(t *testing.T) {
	t.Parallel()
	server, step := steppable(t)
	w := newWorldOn(t, "faults-%s", server)
	all := w.crew(3, setup{env: []string{"SIDECAR_RETRY_BASE=2s", "SIDECAR_RETRY_JITTER=0"}})
	for i, hours := range []int64{-7, 0, 7, -30} {
		rs := w.work(9, 300)
		rs[0].Do, rs[1].Do = "retry", "retry"
		w.group(rs...)
		wait.Pass(time.Second)
		w.hurt(fmt.Sprint("the clock is ", hours, " h off"))
		step(hours * 3600)
		w.one(record{Do: "channel", Next: w.next()})
		w.settle(15 * time.Second)
		w.noRunTakenForDead()
		if i > 0 {
			continue
		}
		for range 6 {
			w.one(record{Ms: 3000})
		}
		wait.Within(t, 10*time.Second, "tasks of the victim", func() bool {
			held, err := w.heldBy(all[0].id)
			return err == nil && len(held) > 0
		})
		w.hurt("a sidecar is killed, and the clock steps back")
		w.bereave(all[0])
		step(-14 * 3600)
		w.settle(30 * time.Second)
	}
	// The checks by time would be wrong: the history has times of the clock of Redis.
	w.stopAll()
	w.nothingLeft()
	f := w.final()
	for id, g := range w.groups {
		if f.Counters[id] != g.Expected || len(f.Completions[id]) != g.Expected {
			w.violation("%s: counter %d, %d completions, expected %d", id, f.Counters[id], len(f.Completions[id]), g.Expected)
		}
	}
	for id := range w.tasks {
		if _, done := f.Results[id]; !done {
			w.violation("%s has no result", id)
		}
	}
	for _, v := range w.broken {
		t.Errorf("violation: %s", v)
	}
	table.add(row{fault: "Redis' clock steps", runs: w.faults, violations: len(w.broken), note: fmt.Sprintf("%d tasks", len(w.tasks))})
}

// TestSentinelsKnowNoMaster removes the master from the Sentinels, cuts connections, and adds
// the master again.
func TestSentinelsKnowNoMaster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.blind = true
	monitor := []any{"sentinel", "monitor", "m", "127.0.0.1", w.server.Port, 1}
	sentinel := redistest.Start(t, "--sentinel monitor", fmt.Sprintf("m 127.0.0.1 %d 1", w.server.Port), "--sentinel")
	w.crew(2, setup{where: []string{"REDIS_ADDRS=" + sentinel.Addr, "REDIS_SENTINEL_MASTER=m"}})
	for range 2 {
		w.busy(2)
		wait.Pass(200 * time.Millisecond)
		w.hurt("the Sentinels know no master")
		ctx, cancel := bounded()
		if err := sentinel.Client().Do(ctx, "sentinel", "remove", "m").Err(); err != nil {
			t.Error(err)
		}
		for range 3 {
			if err := w.c.Do(ctx, "client", "kill", "type", "normal").Err(); err != nil {
				t.Error(err)
			}
			wait.Pass(time.Second)
		}
		if err := sentinel.Client().Do(ctx, monitor...).Err(); err != nil {
			t.Error(err)
		}
		cancel()
		w.settle(20 * time.Second)
		w.goesOn(time.Now())
	}
	w.noRunGivenUp()
	w.verify("Sentinels know no master")
}
