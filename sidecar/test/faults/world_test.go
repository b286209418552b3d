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

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// world is what one test breaks: a Redis of its own, sidecars, what was pushed,
// and the history.
type world struct {
	t      *testing.T
	name   string
	prefix string
	dir    string // logs and the history
	marks  string // see marksVariable
	server *redistest.Instance
	c      *redis.Client // straight to the server
	hist   *history
	obs    *observer
	stalls *stalls
	rnd    *rand.Rand

	mu       sync.Mutex
	started  int
	sidecars []*sidecar
	tasks    map[string]*pushedTask
	groups   map[string]*pushedGroup
	hits     []hit // deaths of sidecars
	broken   []string
	faults   int

	// blind: Redis is killed, frozen or left, so that the observer may miss something.
	blind bool
	// again is how often what Redis lost of reports runs again.
	again int
	// delay is what the fault itself, which goes on during the recovery, adds to
	// the times that are promised without it.
	delay time.Duration
	// outage is the longest time, by the machine's clock, that work took to go on after an
	// outage.
	outage time.Duration
}

// hit is the death of one sidecar and the tasks it held.
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

// newWorldUnder gives the key prefix another form; %s is the test's name.
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
		tasks: make(map[string]*pushedTask), groups: make(map[string]*pushedGroup),
	}
	w.marks = filepath.Join(w.dir, "marks")
	if err := os.MkdirAll(w.marks, 0o755); err != nil {
		t.Fatal(err)
	}
	w.c = w.server.Client()
	var err error
	if w.hist, err = openHistory(filepath.Join(w.dir, "history.jsonl")); err != nil {
		t.Fatal(err)
	}
	w.obs = observe(w.server.Addr, w.prefix, w.hist)
	<-w.obs.up
	w.stalls = watchStalls(w.server.Client())
	t.Cleanup(w.tearDown)
	return w
}

// ownFolder makes one that nobody has used: a test may run several times, and
// FAULT_KEEP may name the folder of an earlier run.
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
	_ = w.hist.close()
}

// killRedis ends the server, and with it the observer's sight of it.
func (w *world) killRedis() {
	w.blind = true
	w.server.Kill()
}

func (w *world) freezeRedis() {
	w.blind = true
	w.server.Freeze()
}

// newProxy is a way to Redis that can be broken.
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

// ctx bounds one look at Redis; it outlives the test's own context, which ends
// before the cleanup.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 5*time.Second)
}

// violation notes that a promise was broken. It may be called by any goroutine.
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
	if err := w.hist.write(event{What: fault, Text: what}); err != nil {
		w.t.Error(err)
	}
}

// bereave notes what a sidecar held that has ended without being asked to.
// Nobody touches it before its lease has run out.
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
	if err := w.hist.write(event{At: at.UnixNano(), What: fault, Text: s.id + " is dead and held " + strings.Join(held, " ")}); err != nil {
		w.t.Error(err)
	}
}

// held is what a sidecar's runs have in flight and in their inboxes: keys that begin
// with in and end with x or t, unlike what they say of themselves (info).
var held = redis.NewScript(`
local all = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':sidecar:in*[xt]:' .. ARGV[2] .. '-*')) do
  local inbox = string.find(key, ':inbox:', 1, true)
  for _, record in ipairs(inbox and redis.call('LRANGE', key, 0, -1) or redis.call('HVALS', key)) do
    all[#all + 1] = record
  end
end
return all`)

// heldBy are the tasks that a sidecar has taken and not ended.
func (w *world) heldBy(id string) (tasks []string, err error) {
	ctx, cancel := bounded()
	defer cancel()
	records, err := held.Run(ctx, w.c, nil, w.prefix, id).StringSlice()
	for _, text := range records {
		tasks = append(tasks, taskOf(text))
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

// alive are the sidecars that run.
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

// stopAll ends what runs in good order.
func (w *world) stopAll() {
	w.t.Helper()
	var wg sync.WaitGroup
	for _, s := range w.alive() {
		wg.Go(s.stop)
	}
	wg.Wait()
}
