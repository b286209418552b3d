//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// world is what one test works on: its own Redis, sidecars, the tasks and groups that were
// pushed, and the history.
type world struct {
	t      *testing.T
	name   string
	prefix string
	dir    string // logs and the history
	marks  string // folder for marksVariable
	server *redistest.Instance
	c      *redis.Client // straight to the server
	hist   *history.File
	obs    *observer
	stalls *stalls
	rnd    *rand.Rand

	mu       sync.Mutex
	started  int
	commands int
	sidecars []*sidecar
	tasks    map[string]*history.Task
	groups   map[string]*history.Group
	hits     []hit // deaths of sidecars
	broken   []string
	letters  int // of oldLetter
	faults   int

	// blind says that Redis is killed, frozen or left, so that the observer may miss
	// commands.
	blind bool
	// again is how often a task may run again because Redis lost its report.
	again int
	// delay is added to the promised times where the fault goes on during the recovery.
	delay time.Duration
	// outage is the longest time that work took to go on after an outage; goesOn measures it
	// by the machine's clock.
	outage time.Duration
}

// hit is the death of one sidecar and the tasks that it had in flight.
type hit struct {
	at    time.Time
	who   string
	pid   int
	tasks []string
}

func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	return newWorldUnder(t, "faults-%s", args...)
}

// newWorldUnder is newWorld with another form of the key prefix; %s is the test's name.
func newWorldUnder(t *testing.T, prefix string, args ...string) *world {
	t.Helper()
	return newWorldOn(t, prefix, redistest.Start(t, args...))
}

func newWorldOn(t *testing.T, prefix string, server *redistest.Instance) *world {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789", r) {
			return r
		}
		return '-'
	}, strings.ToLower(strings.TrimPrefix(t.Name(), "Test")))
	short := name[max(0, len(name)-24):] // part of run ids, which are cut
	w := &world{
		t: t, name: strings.Trim(short, "-"), prefix: fmt.Sprintf(prefix, name), dir: ownFolder(t, name),
		server: server, rnd: random(t, 0),
		tasks: make(map[string]*history.Task), groups: make(map[string]*history.Group),
	}
	w.marks = filepath.Join(w.dir, "marks")
	if err := os.MkdirAll(w.marks, 0o755); err != nil {
		t.Fatal(err)
	}
	w.c = w.server.Client()
	var err error
	if w.hist, err = history.Open(filepath.Join(w.dir, "history.jsonl")); err != nil {
		t.Fatal(err)
	}
	w.obs = observe(w.server.Addr, w.prefix, w.hist)
	<-w.obs.up
	w.stalls = watchStalls(w.server.Client())
	t.Cleanup(w.tearDown)
	return w
}

// ownFolder makes a folder that no other run of the test uses: a test may run several times,
// and FAULT_KEEP may name the folder of an earlier run.
func ownFolder(t *testing.T, name string) string {
	t.Helper()
	for n := 1; ; n++ {
		dir := filepath.Join(scratch, name)
		if n > 1 {
			dir += fmt.Sprintf("-%d", n)
		}
		switch err := os.Mkdir(dir, 0o755); {
		case err == nil:
			return dir
		case !errors.Is(err, fs.ErrExist):
			t.Fatal(err)
		}
	}
}

func (w *world) tearDown() {
	w.mu.Lock()
	all := w.sidecars
	w.mu.Unlock()
	for _, s := range all {
		s.kill()
		<-s.done
	}
	w.stalls.close()
	w.obs.close()
	_ = w.hist.Close()
}

// killRedis kills the server, which ends the observer's MONITOR stream.
func (w *world) killRedis() {
	w.blind = true
	w.server.Kill()
}

func (w *world) freezeRedis() {
	w.blind = true
	w.server.Freeze()
}

// newProxy starts a proxy to Redis that a test can break; it ends with the test.
func (w *world) newProxy(upstream string) *faultproxy.Proxy {
	w.t.Helper()
	p, err := faultproxy.Start(upstream)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return p
}

func (w *world) key(parts ...string) string { return w.prefix + ":" + strings.Join(parts, ":") }

// bounded returns a context for one request to Redis. It does not derive from the test's
// context, which ends before the cleanup.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 5*time.Second)
}

// violation notes that a promise was broken. It is safe for concurrent use.
func (w *world) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// hurt notes a fault in the history and counts it.
func (w *world) hurt(what string) {
	w.mu.Lock()
	w.faults++
	w.mu.Unlock()
	if err := w.hist.Write(history.Event{What: history.Fault, Text: what}); err != nil {
		w.t.Error(err)
	}
}

// bereave notes the tasks that a sidecar had in flight when it ended without being asked to.
// Other sidecars leave those tasks alone until its lease has run out.
func (w *world) bereave(s *sidecar) {
	w.mu.Lock()
	asked := s.asked
	w.mu.Unlock()
	if asked {
		return
	}
	at := time.Now()
	held, err := w.heldBy(s.id)
	if err != nil {
		w.t.Logf("what %s held is not known: %v", s.id, err)
	}
	w.mu.Lock()
	w.hits = append(w.hits, hit{at: at, who: s.id, pid: s.pid(), tasks: held})
	w.mu.Unlock()
	if err := w.hist.Write(history.Event{At: at.UnixNano(), What: history.Fault, Text: s.id + " is dead and held " + strings.Join(held, " ")}); err != nil {
		w.t.Error(err)
	}
}

// held returns the records that a sidecar's runs have in flight and in their inboxes. The
// names of these keys begin with in and end with x or t, unlike info, which describes a run.
var held = redis.NewScript(`
local all = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':sidecar:in*[xt]:' .. ARGV[2] .. '-*')) do
  local inbox = string.find(key, ':inbox:', 1, true)
  for _, record in ipairs(inbox and redis.call('LRANGE', key, 0, -1) or redis.call('HVALS', key)) do
    all[#all + 1] = record
  end
end
return all`)

// heldBy returns the ids of the tasks that a sidecar has taken and not ended.
func (w *world) heldBy(id string) (tasks []string, err error) {
	ctx, cancel := bounded()
	defer cancel()
	records, err := held.Run(ctx, w.c, nil, w.prefix, id).StringSlice()
	for _, text := range records {
		tasks = append(tasks, history.TaskOf(text))
	}
	return tasks, err
}

// anywhere counts the records that have not ended.
var anywhere = redis.NewScript(`
local n = redis.call('LLEN', ARGV[1] .. ':queue') + redis.call('LLEN', ARGV[1] .. ':sidecar:unrouted') + redis.call('HLEN', ARGV[1] .. ':sidecar:delayed:records')
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':sidecar:in*[xt]:*')) do
  n = n + (string.find(key, ':inbox:', 1, true) and redis.call('LLEN', key) or redis.call('HLEN', key))
end
return n`)

func (w *world) unfinished() (int, error) {
	ctx, cancel := bounded()
	defer cancel()
	return anywhere.Run(ctx, w.c, nil, w.prefix).Int()
}

// settle waits until no record is left anywhere.
func (w *world) settle(within time.Duration) {
	w.t.Helper()
	for began := time.Now(); ; wait.Pass(20 * time.Millisecond) {
		n, err := w.unfinished()
		if err == nil && n == 0 {
			return
		}
		if machine.Since(began) > within {
			w.violation("%d records have not ended after %v (%v)", n, within, err)
			return
		}
	}
}

// alive returns the sidecars that run and were not asked to stop.
func (w *world) alive() (all []*sidecar) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sidecars {
		if !s.over() && !s.asked {
			all = append(all, s)
		}
	}
	return all
}

// stopAll stops the sidecars that run with SIGTERM, at the same time, and waits for them.
func (w *world) stopAll() {
	w.t.Helper()
	var wg sync.WaitGroup
	for _, s := range w.alive() {
		wg.Go(s.stop)
	}
	wg.Wait()
}
