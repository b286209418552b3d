//go:build simulation

package simulation

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// drive pushes records and causes faults until the time of the plan is over.
func (w *world) drive() {
	w.refill()
	end := w.began.Add(w.plan.duration)
	next := func(mean time.Duration) time.Time {
		return time.Now().Add(time.Duration(w.rnd.ExpFloat64() * float64(mean)))
	}
	batch, probe := next(w.plan.batches), next(w.plan.duration/8)
	strike := end.Add(time.Hour)
	if len(w.plan.faults) > 0 {
		strike = next(w.plan.every)
	}
	for {
		now := slices.MinFunc([]time.Time{batch, probe, strike, end}, time.Time.Compare)
		if d := time.Until(now); d > 0 {
			sleep(d)
		}
		switch now {
		case end:
			return
		case batch:
			w.pushBatch()
			batch = next(w.plan.batches)
		case probe:
			w.probe()
			probe = next(w.plan.duration / 8)
		case strike:
			w.strike(pick(w.rnd, w.plan.faults...))
			strike = next(w.plan.every)
		}
		w.refill()
	}
}

// refill starts new sidecars in the place of those that have ended, as an orchestrator does.
func (w *world) refill() {
	for len(w.running()) < w.plan.fleet {
		w.startMember()
	}
}

// after runs f after a time, or when the faults end.
func (w *world) after(d time.Duration, f func()) {
	w.mu.Lock()
	i := w.undoID
	w.undoID++
	w.undo[i] = f
	w.mu.Unlock()
	time.AfterFunc(d, func() {
		w.mu.Lock()
		undo := w.undo[i]
		delete(w.undo, i)
		w.mu.Unlock()
		if undo != nil {
			undo()
		}
	})
}

// heal ends all faults, also those that begin with the end of another one.
func (w *world) heal() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	for {
		w.mu.Lock()
		ids := slices.Sorted(maps.Keys(w.undo))
		if len(ids) == 0 {
			w.mu.Unlock()
			break
		}
		undo := w.undo[ids[0]]
		delete(w.undo, ids[0])
		w.mu.Unlock()
		undo()
	}
	for _, m := range w.running() {
		m.app.Resume()
	}
	w.server.Do("DEL", w.key("sidecar:paused")) // a failover may have brought a pause back
}

func (w *world) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// span draws how long a fault lasts: mostly shorter than a lease, sometimes much longer.
func (w *world) span() time.Duration {
	switch w.rnd.IntN(4) {
	case 0:
		return time.Duration(w.rnd.IntN(500)) * time.Millisecond
	case 1, 2:
		return time.Duration(w.rnd.IntN(8000)) * time.Millisecond
	default:
		return time.Duration(5+w.rnd.IntN(55)) * time.Second
	}
}

// lasting notes a fault that lasts, and its end.
func (w *world) lasting(f fault, detail string, d time.Duration, end func()) {
	w.hurt(string(f), fmt.Sprint(detail, " for ", d.Round(time.Millisecond)), true)
	w.after(d, func() {
		end()
		w.hurt("over: "+string(f), detail, false)
	})
}

// strike causes one fault.
func (w *world) strike(f fault) {
	if w.strikeRedis(f) || w.strikeFleet(f) {
		return
	}
	all := w.running()
	if len(all) == 0 {
		return
	}
	m, d := pick(w.rnd, all...), w.span()
	switch f {
	case refusesDials:
		m.host.Refuse(true)
		if w.rnd.IntN(2) == 0 {
			m.host.Cut()
		}
		w.lasting(f, m.name, d, func() { m.host.Refuse(false) })
	case slowLink:
		m.host.Shape(time.Duration(w.rnd.IntN(400))*time.Millisecond, pick(w.rnd, 0, 40<<10, 200<<10, 2<<20))
		w.lasting(f, m.name, d, func() { m.host.Shape(w.plan.latency, w.plan.rate) })
	case freezesHost:
		m.freeze(d, "")
	case cutsHost:
		w.hurt(string(f), m.name, true)
		m.host.Cut()
	case killsChild, freezesChild:
		ps := m.alive()
		if len(ps) == 0 {
			return
		}
		p := pick(w.rnd, ps...)
		if f == killsChild {
			w.hurt(string(f), fmt.Sprint(p.pid), false)
			p.exit(local.Ending{Code: -1, Signal: syscall.SIGKILL})
			return
		}
		m.excuse() // what was written to it before a stop, it begins after it
		p.out.Hold(true)
		p.stdin.Hold(true)
		w.lasting(f, fmt.Sprint(p.pid), d, func() { p.out.Hold(false); p.stdin.Hold(false) })
	case killsTree:
		w.hurt(string(f), m.name, false)
		m.excuse()
		m.endProcesses(syscall.SIGTERM)
		sleep(time.Duration(w.rnd.IntN(900)) * time.Millisecond)
		m.stop(string(f), m.app.Stop)
	case stallsLog:
		m.log.stall(true)
		w.lasting(f, m.name, d, func() { m.log.stall(false) })
	}
}

// mostAhead bounds the sum of the steps ahead of Redis' clock: what an open group has counted
// is kept for a week.
const mostAhead = 6*24*time.Hour + 12*time.Hour

// strikeRedis causes a fault of the server. It reports whether f is one.
func (w *world) strikeRedis(f fault) bool {
	d := w.span()
	with := func(set func(db *redismodel.DB, on bool)) {
		w.server.With(func(db *redismodel.DB) { set(db, true) })
		w.lasting(f, "", d, func() { w.server.With(func(db *redismodel.DB) { set(db, false) }) })
	}
	switch f {
	case outage:
		w.net.SetDown(true)
		w.server.CloseConns()
		w.lasting(f, "", d, func() { w.net.SetDown(false) })
	case freezesRedis:
		w.server.Freeze()
		w.lasting(f, "", d, w.server.Thaw)
	case failover:
		w.failOver()
	case flush:
		if w.server.Do("FLUSHALL").Err() != "" {
			return true // it takes no writes
		}
		w.forget(nil)
		w.hurt(string(f), "", true)
		w.pushBatch() // a wait may bring it to a run that is forgotten
	case scriptFlush:
		w.hurt(string(f), "", false)
		w.server.Do("SCRIPT", "FLUSH")
	case clockBack, clockAhead:
		step := time.Duration(w.rnd.Int64N(int64(3 * 24 * time.Hour)))
		if w.rnd.IntN(2) == 0 {
			step = time.Duration(w.rnd.Int64N(int64(20 * time.Second)))
		}
		if f == clockBack {
			step = -step
		} else {
			step = min(step, mostAhead-w.ahead)
			w.ahead += step
		}
		w.hurt(string(f), step.String(), true)
		w.mu.Lock()
		w.step += step
		w.mu.Unlock()
	case memoryFull:
		with(func(db *redismodel.DB, on bool) { db.SetMemoryFull(on) })
	case readOnly:
		with(func(db *redismodel.DB, on bool) { db.RefuseWrites(text(on, redismodel.ReadOnly)) })
	case loading:
		with(func(db *redismodel.DB, on bool) {
			db.RefuseAll(text(on, "LOADING Redis is loading the dataset in memory"))
		})
	default:
		return false
	}
	return true
}

func text(on bool, t string) string {
	if on {
		return t
	}
	return ""
}

// failOver lets a replica take over that has not heard the last of its master.
func (w *world) failOver() {
	var tail *redismodel.Snapshot
	w.server.With(func(db *redismodel.DB) { tail = db.Snapshot() })
	lag, forgotten := w.span(), w.forgetting
	w.note(history.Event{What: "redis", Text: "a replica has heard the last of its master"})
	w.after(lag, func() {
		w.mu.Lock()
		old := w.forgetting != forgotten
		w.mu.Unlock()
		if old {
			return // the replica would bring back what a flush has deleted
		}
		w.net.SetDown(true)
		w.server.CloseConns()
		w.server.With(func(db *redismodel.DB) { db.Restore(tail) })
		w.forget(tail)
		w.lasting(failover, fmt.Sprint("of ", lag.Round(time.Millisecond)), time.Duration(w.rndAfter.IntN(5000))*time.Millisecond, func() { w.net.SetDown(false) })
	})
}

// strikeFleet does what operators do. It reports whether f is such.
func (w *world) strikeFleet(f fault) bool {
	all := w.running()
	if len(all) == 0 {
		return slices.Contains([]fault{kills, stops, stopsTwice, drainsRun, restarts, reloads, quiets, pauses, requeuesDead, dropsDead}, f)
	}
	m, d := pick(w.rnd, all...), w.span()
	ctx, cancel := bounded()
	defer cancel()
	switch f {
	case kills:
		m.kill("")
	case stops:
		w.hurt(string(f), m.name, false)
		m.stop("asked", m.app.Stop)
	case stopsTwice:
		w.hurt(string(f), m.name, false)
		m.stop("asked twice", func() {
			m.app.Stop()
			w.after(d/4, m.app.Abort)
		})
	case drainsRun:
		if run := w.runOf(m); run != "" && m.tell() && w.admin.SendCommand(ctx, run, fleet.Command{Action: fleet.Drain, By: "test"}) == nil {
			w.hurt(string(f), m.name, false)
		}
	case restarts:
		if run := w.runOf(m); run != "" && w.admin.SendCommand(ctx, run, fleet.Command{Action: fleet.RestartChildren, By: "test"}) == nil {
			w.hurt(string(f), m.name, false)
		}
	case reloads:
		w.hurt(string(f), m.name, false)
		m.app.RestartWorkers()
	case quiets:
		m.app.Quiet()
		w.lasting(f, m.name, d, m.app.Resume)
	case pauses:
		if w.admin.Pause(ctx, fleet.AllRuns, "test") != nil {
			return true
		}
		w.lasting(f, "", d, func() {
			ctx, cancel := bounded()
			defer cancel()
			_ = w.admin.Unpause(ctx, fleet.AllRuns) // a Redis that refuses it keeps the pause until the end
		})
	case requeuesDead, dropsDead:
		w.operate(f)
	default:
		return false
	}
	return true
}

// runOf returns the registered run of a sidecar; "" without one.
func (w *world) runOf(m *member) string {
	ctx, cancel := bounded()
	defer cancel()
	runs, err := w.admin.Fleet(ctx)
	if err != nil {
		return ""
	}
	for _, r := range runs {
		if r.WorkerID == m.name {
			return r.ID
		}
	}
	return ""
}

// operate requeues or drops a dead letter.
func (w *world) operate(f fault) {
	ctx, cancel := bounded()
	defer cancel()
	letters, err := w.admin.DeadLetters(ctx, 20)
	if err != nil || len(letters) == 0 {
		return
	}
	l := pick(w.rnd, letters...)
	if f == dropsDead {
		w.release(l.TaskID)
		if dropped, err := w.admin.Drop(ctx, l.ID); err == nil && dropped {
			w.hurt(string(f), l.TaskID, false)
		}
		return
	}
	w.release(l.TaskID)                                         // also where the answer is lost
	if _, err := w.admin.Requeue(ctx, l.ID, true); err == nil { // also where the group is over
		w.hurt(string(f), l.TaskID, false)
	}
}

// release ends what is expected of a task: an operator has decided about it.
func (w *world) release(task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.tasks[task]; t != nil {
		t.Pushes, t.Unsure = 0, true
		w.released[task] = true
	}
}
