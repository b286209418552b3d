//go:build simulation

package simulation

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logging"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/simnet"
)

// member is one sidecar of the fleet.
type member struct {
	world       *world
	name        string
	host        *simnet.Host
	cfg         config.Config
	app         *app.App
	log         *logReader
	queue       *logging.Queue
	concurrency int
	startTime   time.Duration

	mu        sync.Mutex
	passed    map[string]uint64 // how often each request and failpoint was passed
	processes []*process
	killed    bool
	told      bool      // it was told to stop, or to drain
	asked     time.Time // when its stop began; zero before
	excused   bool      // it was disturbed, so that a task may begin late
	frozen    bool
	stopping  chan struct{} // closed when the stop begins, or the sidecar is killed
	ended     chan struct{}
}

// starting serializes the starts: each sidecar has hooks of its own.
var starting sync.Mutex

// startMember adds a sidecar to the fleet.
func (w *world) startMember() *member {
	w.mu.Lock()
	n := len(w.members) + 1
	w.mu.Unlock()
	m := &member{
		world: w, name: fmt.Sprint("s", n), concurrency: w.plan.concurrency, startTime: w.plan.startTime,
		passed: map[string]uint64{}, stopping: make(chan struct{}), ended: make(chan struct{}), log: newLogReader(),
	}
	m.host = w.net.Host(m.name, m.decide)
	m.host.Shape(w.plan.latency, w.plan.rate)
	m.cfg = app.DefaultConfig()
	m.cfg.WorkerID, m.cfg.KeyPrefix, m.cfg.Redis.Host = m.name, prefix, "redis"
	w.plan.configure(&m.cfg)
	if w.plan.spool {
		m.cfg.SpoolDir = filepath.Join(w.t.TempDir(), m.name)
	}
	m.queue = logging.NewQueue(m.log)
	m.cfg.Log = slog.New(slog.NewTextHandler(m.queue, nil))
	starting.Lock()
	testhook.Hooks = testhook.Set{Start: m.start, Dial: m.host.Dial, Redis: m.hookRedis, Sink: m.hookSink}
	a, err := app.Start(context.Background(), m.cfg)
	testhook.Hooks = testhook.Set{}
	starting.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	m.app = a
	w.mu.Lock()
	w.members = append(w.members, m)
	w.mu.Unlock()
	w.note(history.Event{What: "sidecar", Text: m.name + " starts"})
	w.wg.Go(func() {
		err := a.Wait()
		m.queue.Close(time.Second)
		m.log.stall(false)
		m.mu.Lock()
		expected := m.killed || m.told
		m.mu.Unlock()
		if err != nil && !m.host.Dead() || !expected {
			w.violation("%s ended by itself: %v", m.name, err)
		}
		w.note(history.Event{What: "sidecar", Text: m.name + " has ended"})
		close(m.ended)
	})
	w.wg.Go(m.watchStop)
	return m
}

func (m *member) isUp() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.killed && !m.told
}

// watchStop checks that a stop ends in its budget. The watchdog of a real process would end
// it one second after that.
func (m *member) watchStop() {
	<-m.app.Stopping()
	m.mu.Lock()
	m.asked = time.Now()
	killed := m.killed
	m.mu.Unlock()
	if !killed {
		close(m.stopping)
	}
	m.world.note(history.Event{What: "sidecar", Text: m.name + " stops"})
	most := m.cfg.ShutdownTimeout + time.Second
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-m.ended:
	case <-timer.C:
		if !m.host.Dead() {
			m.world.violation("%s has not ended %v after its stop began", m.name, most)
		}
		<-m.ended
	}
}

// chance returns the random numbers of one passage of a place. They depend on the place and
// on the number of the passage only, so that the order of the goroutines changes little.
func (m *member) chance(place string) *rand.Rand {
	m.mu.Lock()
	n := m.passed[place]
	m.passed[place] = n + 1
	m.mu.Unlock()
	h := fnv.New64a()
	_, _ = io.WriteString(h, m.name+place) // it never fails
	return rand.New(rand.NewPCG(m.world.seed^h.Sum64(), n))
}

// commandHead is how much of a request tells its command, and which script it calls.
const commandHead = 66

// decide draws the fault of one request.
func (m *member) decide(request []byte) simnet.Action {
	w := m.world
	if w.plan.chance == 0 || len(w.plan.requests) == 0 || w.isOver() {
		return simnet.Action{}
	}
	rnd := m.chance(string(request[:min(len(request), commandHead)]))
	if rnd.Float64() >= w.plan.chance {
		return simnet.Action{}
	}
	a := simnet.Action{Fault: pick(rnd, w.plan.requests...), Delay: time.Duration(rnd.Int64N(int64(8 * time.Second)))}
	if rnd.IntN(2) == 0 {
		a.Delay /= 50
	}
	w.hurt("request: "+string(a.Fault), m.name, true)
	return a
}

// began notes that a worker begins a task, and checks that it may.
func (m *member) began(task, delivery string, pid int) {
	m.world.note(history.Event{What: history.Started, Task: task, Delivery: delivery, Pid: pid, Text: m.name})
	m.mu.Lock()
	asked, excused, killed := m.asked, m.excused, m.killed
	m.mu.Unlock()
	if late := time.Since(asked); !asked.IsZero() && !excused && !killed && late > startAfterStop {
		m.world.violation("%s began on %s %v after its stop", task, m.name, late)
	}
}

// startAfterStop is how long after the beginning of a stop a worker may begin a task that
// was written to it before.
const startAfterStop = 50 * time.Millisecond

// kill ends the sidecar as SIGKILL does: its workers die, and it reaches nothing any more.
// What is left of it is let go.
func (m *member) kill(why string) {
	m.mu.Lock()
	if m.killed || m.host.Dead() {
		m.mu.Unlock()
		return
	}
	m.killed = true
	stops := m.asked.IsZero()
	m.mu.Unlock()
	if stops {
		close(m.stopping)
	}
	for _, task := range m.world.heldBy(m.name) {
		m.world.interrupted(task)
	}
	m.world.hurt(string(kills), m.name+" "+why, true)
	if m.cfg.SpoolDir != "" {
		_ = os.Rename(m.cfg.SpoolDir, m.cfg.SpoolDir+".gone") // a dead sidecar writes no spool
	}
	m.host.Kill()
	m.log.stall(false)
	m.endProcesses(syscall.SIGKILL)
	m.world.wg.Go(m.app.Abort)
}

// endProcesses sends a signal to all workers.
func (m *member) endProcesses(sig syscall.Signal) {
	for _, p := range m.alive() {
		p.Signal(sig)
	}
}

func (m *member) alive() []*process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.processes), (*process).gone)
}

// freeze holds all that reaches the sidecar or leaves it. Its goroutines go on: a timer of a
// process that is really stopped would not.
func (m *member) freeze(d time.Duration, why string) {
	m.mu.Lock()
	if m.killed || m.frozen {
		m.mu.Unlock()
		return
	}
	m.frozen, m.excused = true, true
	m.mu.Unlock()
	m.world.hurt(string(freezesHost), fmt.Sprint(m.name, " for ", d, " ", why), true)
	m.host.Freeze()
	held := m.alive()
	for _, p := range held {
		p.out.Hold(true)
		p.stdin.Hold(true)
	}
	m.world.after(d, func() {
		m.mu.Lock()
		m.frozen = false
		m.mu.Unlock()
		m.host.Thaw()
		for _, p := range held {
			p.out.Hold(false)
			p.stdin.Hold(false)
		}
		m.world.hurt("thawed", m.name, false)
	})
}

// stop tells the sidecar to stop.
func (m *member) stop(how string, stop func()) {
	if m.tell() {
		m.world.note(history.Event{What: "sidecar", Text: m.name + " is told to stop: " + how})
		stop()
	}
}

// tell notes that the sidecar was told to stop. It reports whether it is the first time.
func (m *member) tell() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := !m.killed && !m.told
	m.told = true
	return first
}

// excuse allows tasks to begin late: what holds them is a fault.
func (m *member) excuse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.excused = true
}

// logReader reads the log of a sidecar, or does not. It keeps the last lines.
type logReader struct {
	mu    sync.Mutex
	goes  *sync.Cond
	held  bool
	lines []string
}

func newLogReader() *logReader {
	l := &logReader{}
	l.goes = sync.NewCond(&l.mu)
	return l
}

const keepLines = 60

// Write takes lines, when it does not stall.
func (l *logReader) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.held {
		l.goes.Wait()
	}
	if len(l.lines) == keepLines {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logReader) stall(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.goes.Broadcast()
}

func (l *logReader) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[max(0, len(l.lines)-n):])
}
