//go:build simulation

package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/simnet"
)

// prefix is the key prefix, and the session of all records.
const prefix = "sim"

// world is one seed: Redis, the network, the fleet, and what has happened.
type world struct {
	t      *testing.T
	seed   uint64
	plan   plan
	rnd    *rand.Rand    // of the driver
	ahead  time.Duration // the steps ahead of Redis' clock so far
	server *redismodel.Server
	net    *simnet.Network
	admin  *redis.Store // of operators; no fault touches it
	began  time.Time
	broken breakage // a mistake that a test plants

	mu          sync.Mutex
	step        time.Duration // of Redis' clock
	events      []history.Event
	tasks       map[string]*history.Task
	behaviours  map[string]behaviour
	groups      map[string]*history.Group
	waits       map[string]chan struct{} // groups that a task waits for
	seen        map[string]bool          // tasks that a worker has begun
	interrupts  map[string]int           // by task: ends of a worker under it
	pids        int
	records     int
	members     []*member
	violations  []string
	counts      map[string]int  // of faults by kind
	severe      int             // faults that may make any task run again
	restless    time.Time       // when the last fault ended
	over        bool            // no more faults
	forgetting  int             // how often Redis has forgotten
	completions int             // ends of records
	front       int             // records that producers have pushed to the head of the queue
	sized       map[string]bool // records or results that are too large
	released    map[string]bool // tasks that an operator has decided about
	undo        map[int]func()  // ends of faults
	undoID      int
	rndAfter    *rand.Rand // of what happens after a fault
	second      *linear.Result
	pushing     atomic.Int32 // groups that tasks are pushing
	wg          sync.WaitGroup
}

func newWorld(t *testing.T, seed uint64, p plan, b breakage) *world {
	w := &world{
		t: t, seed: seed, plan: p, rnd: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), broken: b,
		tasks: map[string]*history.Task{}, behaviours: map[string]behaviour{}, groups: map[string]*history.Group{}, waits: map[string]chan struct{}{},
		seen: map[string]bool{}, interrupts: map[string]int{}, counts: map[string]int{}, pids: 1000,
		released: map[string]bool{}, sized: map[string]bool{}, undo: map[int]func(){}, rndAfter: rand.New(rand.NewPCG(seed, 2)),
	}
	db := redismodel.New(w.redisTime)
	db.Observe, db.Rewrite = w.observe, b.script
	w.server = redismodel.NewServer(db)
	w.server.OutputLimit = p.outputLimit
	w.server.Do("CONFIG", "SET", "proto-max-bulk-len", strconv.Itoa(p.maxBulk))
	w.net = simnet.New(func(c net.Conn) { w.server.ServeConn(c) })
	cfg := config.Default()
	cfg.KeyPrefix = prefix
	if p.right {
		cfg.QueueSide = config.QueueRight // a requeued record goes to the other end
	}
	operator := simnet.New(func(c net.Conn) { w.server.ServeConn(c) }).Host("operator", nil)
	admin, err := redis.Open(&cfg, redis.ClientOptions{Host: "redis", Dial: operator.Dial, PoolSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	w.admin = admin
	return w
}

// redisTime is the clock of Redis, which steps.
func (w *world) redisTime() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.step)
}

// observe notes what a command of the model did.
func (w *world) observe(words []string, script bool) {
	if len(words) < 2 {
		return
	}
	for _, e := range (history.Reader{Prefix: prefix, Right: w.plan.right}).Events(time.Now().UnixNano(), words, script) {
		w.note(e)
	}
}

// note adds an event to the history.
func (w *world) note(e history.Event) {
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	switch e.What {
	case history.Published:
		if ch := w.waits[e.Group]; ch != nil {
			close(ch)
			delete(w.waits, e.Group)
		}
	case history.Completed, history.Value, history.Buried:
		w.completions++
	}
}

// broken is the event of a broken promise.
const broken = "violation"

// violation notes a broken promise.
func (w *world) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note(history.Event{What: broken, Text: text})
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < 20 {
		w.violations = append(w.violations, text)
	}
}

// hurt notes a fault. A severe one may make any task run again: its sidecar may lose its
// lease, or Redis its report.
func (w *world) hurt(kind, detail string, severe bool) {
	w.note(history.Event{What: history.Fault, Text: strings.TrimSpace(kind + " " + detail)})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[kind]++
	w.restless = time.Now()
	if severe {
		w.severe++
	}
}

// interrupted notes that a task has lost its worker.
func (w *world) interrupted(task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupts[task]++
}

// first reports whether a task begins for the first time.
func (w *world) first(task string, _ behaviour) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen[task]
	w.seen[task] = true
	return !seen
}

func (w *world) nextPid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pids++
	return w.pids
}

func (w *world) mayForget() bool { return w.plan.forgets() }

func (w *world) key(parts ...string) string { return prefix + ":" + strings.Join(parts, ":") }

// running returns the sidecars that were neither killed nor told to stop.
func (w *world) running() (some []*member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members {
		if m.isUp() {
			some = append(some, m)
		}
	}
	return some
}

// unfinished counts the records that have not ended, and the groups that are not in the queue yet.
func (w *world) unfinished() (n int) {
	w.server.With(func(db *redismodel.DB) {
		size := func(args ...string) int { return int(db.Do(args...).Int) }
		n = size("LLEN", w.key("queue")) + size("LLEN", w.key("sidecar:unrouted")) + size("HLEN", w.key("sidecar:delayed:records"))
		for _, key := range db.Do("KEYS", w.key("sidecar:in*[xt]:*")).Texts() {
			if strings.Contains(key, ":inbox:") {
				n += size("LLEN", key)
			} else {
				n += size("HLEN", key)
			}
		}
	})
	return n + int(w.pushing.Load())
}

// heldBy returns the tasks that the runs of a sidecar have in flight or in their inboxes.
func (w *world) heldBy(name string) (tasks []string) {
	w.server.With(func(db *redismodel.DB) {
		for _, key := range db.Do("KEYS", w.key("sidecar:in*[xt]:"+name+"-*")).Texts() {
			records := db.Do("HVALS", key)
			if strings.Contains(key, ":inbox:") {
				records = db.Do("LRANGE", key, "0", "-1")
			}
			for _, text := range records.Texts() {
				tasks = append(tasks, history.TaskOf(text))
			}
		}
	})
	slices.Sort(tasks)
	return tasks
}

// sleep waits in virtual time.
func sleep(d time.Duration) { time.Sleep(d) }

// bounded returns a context for a call of an operator.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}
