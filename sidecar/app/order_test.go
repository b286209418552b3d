package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
)

// orderTest is one sidecar in a bubble: every stage is the real one, and Redis
// and the workers are in memory.
type orderTest struct {
	*App
	redis   *fakeRedis
	workers *fakeWorkers
	server  *fakeServer
	journal journal
	death   chan struct{} // closed: the stage named first ends for no reason
	running []string      // records in flight when the stop began
}

const orderSlots = 3

var orderRecords = []string{"a", "b", "c", "d", "e", "f", "g"}

// startOrder starts it. The stage first can be made to end, and the stage
// stubborn does not do what its soft stop asks for.
func startOrder(t *testing.T, first, stubborn string, change func(*config.Config)) *orderTest {
	t.Helper()
	return startOrderWith(t, observe.Telemetry{}, first, stubborn, change)
}

func startOrderWith(t *testing.T, telemetry observe.Telemetry, first, stubborn string, change func(*config.Config)) *orderTest {
	t.Helper()
	o := &orderTest{
		redis:   newFakeRedis(stubborn, orderRecords...),
		workers: &fakeWorkers{stubborn: stubborn == "process", slow: 700 * time.Millisecond},
		server:  &fakeServer{stubborn: stubborn == "local redis", done: make(chan struct{})},
		death:   make(chan struct{}),
	}
	cfg := DefaultConfig()
	cfg.WorkerID, cfg.Slots, cfg.Log = "order", orderSlots, slog.New(slog.DiscardHandler)
	cfg.Worker.Command = []string{"fake"}
	if change != nil {
		change(&cfg)
	}
	a, err := start(t.Context(), cfg, hooks{
		Set: testhook.Set{Start: o.workers.start}, backend: o.redis.backend, local: o.server, telemetry: telemetry,
		wrap: func(x actor) actor { return o.watched(x, first, stubborn) },
	})
	if err != nil {
		t.Fatal(err)
	}
	o.App = a
	return o
}

// watched notes when an actor is asked to stop and when it has returned.
func (o *orderTest) watched(x actor, first, stubborn string) actor {
	run := x.run
	x.run = func(soft, hard context.Context) error {
		defer context.AfterFunc(soft, func() { o.journal.note("%s asked", x.name) })()
		defer o.journal.note("%s gone", x.name)
		ownSoft, endSoft := context.WithCancel(soft)
		ownHard, endHard := context.WithCancel(hard)
		defer endSoft()
		defer endHard()
		died := false
		if x.name == first && first != "stop" && first != "local redis" {
			over := make(chan struct{})
			defer func() { <-over }()
			defer endSoft()
			go func() {
				defer close(over)
				select {
				case <-o.death:
					died = true
					endSoft()
					endHard()
				case <-ownSoft.Done():
				}
			}()
		}
		err := run(ownSoft, ownHard)
		if x.name == stubborn && (stubborn == "stop" || stubborn == "dispatch") && soft.Err() != nil {
			<-hard.Done() // these two have nothing of their own that could hold them up
		}
		if died {
			return errors.Join(fmt.Errorf("%s is broken", x.name), err)
		}
		return err
	}
	return x
}

// TestAChangeOfStateIsSaidAtOnce: the registry has it as soon as a command can ask,
// and not with one of the next ticks.
func TestAChangeOfStateIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := startOrder(t, "stop", "", nil)
		check := func(want State) {
			t.Helper()
			time.Sleep(50 * time.Millisecond)
			o.redis.mu.Lock()
			defer o.redis.mu.Unlock()
			if o.redis.said != want {
				t.Errorf("the sidecar said %q, want %q", o.redis.said, want)
			}
		}
		<-o.Ready()
		check(Running)
		o.Quiet()
		check(Quiet)
		o.onTick(true, false, nil)
		check(Paused)
		o.onTick(false, false, nil)
		o.Resume()
		check(Running)
		o.Stop()
		check(Stopping)
		if err := o.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestStopOrderOfTheRealStages runs each pair of a stage that dies first and a
// stage that ignores the soft stop. No stage is asked to stop before all before it
// have returned, the budget holds, no stage speaks to Redis after its connections
// have closed, no worker is left (nor a goroutine: the bubble would not end), and
// every record is in exactly one place: in the queue in its old order, or ended,
// or, where Redis could not be told, still in flight for the next sidecar to find.
func TestStopOrderOfTheRealStages(t *testing.T) {
	for _, first := range stageNames {
		for _, stubborn := range append([]string{""}, stageNames...) {
			t.Run(first+" dies, "+stubborn+" ignores", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stopRealStages(t, first, stubborn) })
			})
		}
	}
}

func stopRealStages(t *testing.T, first, stubborn string, change ...func(*config.Config)) {
	o := startOrder(t, first, stubborn, func(c *config.Config) {
		for _, f := range change {
			f(c)
		}
	})
	time.Sleep(time.Second) // in mid-work: three have ended or run, others wait
	o.running = o.redis.inflightNow()
	began := time.Now()
	switch first {
	case "stop":
		o.Stop()
	case "local redis":
		o.server.die(errors.New("local redis is broken"))
	default:
		close(o.death)
	}
	err := o.Wait()
	took := time.Since(began)

	if want := first + " is broken"; first != "stop" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("ended with %v, want %q", err, want)
	}
	if first == "stop" && err != nil {
		t.Errorf("ended with %v", err)
	}
	o.checkOrder(t, first)
	if took > 26*time.Second {
		t.Errorf("took %v", took)
	}
	// Stop and dispatch have nothing that could hold them up: their deafness is
	// the test's, and counts when another stage's end comes before their own.
	deaf := stubborn == first && (first == "stop" || first == "dispatch")
	// Without Redis a stop waits a second for it, and two to leave the run.
	if (stubborn == "" || stubborn == first) && !deaf && first != "process" && took > 3500*time.Millisecond {
		t.Errorf("took %v although no stage held it up", took)
	}
	// What is not reported goes back when the run is left; only where that
	// cannot be done, Redis cannot be told everything.
	told := first != "leave" && first != "redis" && first != "local redis" && stubborn != "leave"
	o.checkRecords(t, told)
}

// checkOrder wants first to be the first to go, if it is not empty.
func (o *orderTest) checkOrder(t *testing.T, first string) {
	t.Helper()
	synctest.Wait()
	o.journal.mu.Lock()
	lines := slices.Clone(o.journal.lines)
	o.journal.mu.Unlock()
	gone := map[string]bool{}
	for i, line := range lines {
		name, what, _ := cutLast(line)
		if what == "gone" {
			gone[name] = true
			continue
		}
		for _, before := range stageNames[:slices.Index(stageNames, name)] {
			if !gone[before] {
				t.Errorf("%s was asked to stop while %s was there:\n%s", name, before, strings.Join(lines[:i+1], "\n"))
			}
		}
	}
	if len(gone) != len(stageNames) {
		t.Errorf("gone: %v", gone)
	}
	// A closed queue ends the claim stage in the same moment: which of the two
	// is noted first is chance. The stop and the local Redis die by themselves.
	alone := first != "" && first != "stop" && first != "dispatch" && first != "local redis"
	if i := slices.Index(lines, first+" gone"); alone && i != 0 {
		t.Errorf("%s was not the first to go:\n%s", first, strings.Join(lines, "\n"))
	}
	select {
	case <-o.server.done:
	default:
		t.Error("the local redis still runs")
	}
	if n := o.workers.left(); n > 0 {
		t.Errorf("%d worker processes are left", n)
	}
	if n := len(o.redis.late); n > 0 && first != "redis" {
		t.Errorf("said to a closed connection %d times: %v …", n, o.redis.late[:min(n, 20)])
	}
}

func cutLast(line string) (before, after string, found bool) {
	i := strings.LastIndexByte(line, ' ')
	return line[:i], line[i+1:], true
}

func (o *orderTest) checkRecords(t *testing.T, told bool) {
	t.Helper()
	queue, inflight, ended := o.redis.state()
	var all []string
	all = append(append(all, queue...), inflight...)
	for _, e := range ended {
		record, outcome, _ := strings.Cut(e, " ")
		if outcome != "succeeded" {
			t.Errorf("%s", e)
		}
		all = append(all, record)
	}
	slices.Sort(all)
	if !slices.Equal(all, orderRecords) {
		t.Errorf("queue %v, in flight %v, ended %v", queue, inflight, ended)
	}
	// Children that are killed end in any order, and what they held goes back
	// before what had not started.
	unstarted := slices.DeleteFunc(slices.Clone(queue), func(r string) bool { return slices.Contains(o.running, r) })
	if !slices.IsSorted(unstarted) || !slices.Equal(queue[len(queue)-len(unstarted):], unstarted) {
		t.Errorf("the queue's order: %v", queue)
	}
	if told && len(inflight) > 0 {
		t.Errorf("still in flight: %v", inflight)
	}
}

// TestAStageThatCannotGoOnStopsTheOthers: the ways in which stages really end
// by themselves.
func TestAStageThatCannotGoOnStopsTheOthers(t *testing.T) {
	for _, stage := range []string{"claim", "report", "lease"} {
		t.Run("redis refuses "+stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := startOrder(t, "", "", nil)
				time.Sleep(time.Second)
				o.running = o.redis.inflightNow()
				o.redis.set(func() { o.redis.faulty = stage })
				var refused *RefusedError
				if err := o.Wait(); !errors.As(err, &refused) {
					t.Errorf("ended with %v", err)
				}
				o.checkOrder(t, stage)
				o.checkRecords(t, stage != "lease")
			})
		})
	}
	t.Run("no worker starts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := startOrder(t, "", "", func(c *config.Config) { c.Worker.Command = []string{absentCommand} })
			var failure *StartError
			if err := o.Wait(); !errors.As(err, &failure) {
				t.Errorf("ended with %v", err)
			}
			o.checkOrder(t, "process")
			o.checkRecords(t, true)
		})
	})
}

// TestAPanicInAnyActorLeavesNothingBehind: a bug in one stage, on its own
// goroutine or on one that it started, ends in an error that names it, after an
// orderly stop of all others.
func TestAPanicInAnyActorLeavesNothingBehind(t *testing.T) {
	for _, stage := range []string{"claim", "report", "lease", "leave", "health", "redis", "process", "worker's answers"} {
		t.Run(stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := startOrder(t, "", "", nil)
				time.Sleep(time.Second)
				o.running = o.redis.inflightNow()
				want := stage
				switch stage {
				case "process":
					o.workers.set(func() { o.workers.broken = true })
					o.RestartWorkers() // the next start panics
				case "worker's answers":
					want = "process"
					o.workers.set(func() { o.workers.brokenPipe = true })
				case "leave", "redis": // they only work during a stop
					o.redis.set(func() { o.redis.broken = stage })
					o.Stop()
				default:
					o.redis.set(func() { o.redis.broken = stage })
				}
				var p *PanicError
				if err := o.Wait(); !errors.As(err, &p) || p.Stage != want || len(p.Stack) == 0 {
					t.Errorf("ended with %v", err)
				}
				o.checkOrder(t, "")
				o.checkRecords(t, stage != "leave")
			})
		})
	}
}
