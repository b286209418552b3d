package app

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestStopOrderInModeExec: the rules of TestStopOrderOfTheRealStages hold for the
// stage that takes the pool's place.
func TestStopOrderInModeExec(t *testing.T) {
	for _, first := range stageNames {
		for _, stubborn := range []string{"", "claim", "process", "report", "lease"} {
			t.Run(first+" dies, "+stubborn+" ignores", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					stopRealStages(t, first, stubborn, func(c *config.Config) {
						c.Mode, c.Worker.Command = config.ModeExec, []string{execCommand}
					})
				})
			})
		}
	}
}

// twoKinds are one of each mode that has a pipeline.
func twoKinds(c *config.Config) {
	rpc, exec := c.Worker, c.Worker
	exec.Command = []string{execCommand}
	c.Kinds = []config.Kind{{Pattern: "a*", Mode: config.ModeRPC, Slots: orderSlots, Worker: rpc}, {Pattern: "*", Mode: config.ModeExec, Slots: orderSlots, Worker: exec}}
	c.Worker.Command = nil
}

// TestStopOrderWithKinds: nor does it matter that there are several.
func TestStopOrderWithKinds(t *testing.T) {
	for _, first := range stageNames {
		for _, stubborn := range []string{"", "claim", "process", "report", "lease"} {
			t.Run(first+" dies, "+stubborn+" ignores", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stopRealStages(t, first, stubborn, twoKinds) })
			})
		}
	}
}

// TestAKindThatFailsEndsTheOthers: one that never starts and one that panics end
// the sidecar, within the budget of a stop, and what they held goes back.
func TestAKindThatFailsEndsTheOthers(t *testing.T) {
	for name, stubborn := range map[string]string{"and they finish": "", "and they do not": "process"} {
		t.Run("it does not start "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := startOrder(t, "", stubborn, func(c *config.Config) {
					twoKinds(c)
					c.Kinds[1].Mode, c.Kinds[1].Worker.Command = config.ModeRPC, []string{absentCommand}
				})
				began := time.Now()
				var failure *StartError
				if err := o.Wait(); !errors.As(err, &failure) || !strings.Contains(err.Error(), "tasks *: ") {
					t.Errorf("ended with %v", err)
				}
				if d := time.Since(began); d > 30*time.Second {
					t.Errorf("took %v", d)
				}
				o.checkOrder(t, "")
				o.checkPlaces(t)
			})
		})
	}
	t.Run("it panics", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := startOrder(t, "", "", twoKinds)
			time.Sleep(time.Second)
			o.workers.set(func() { o.workers.broken = true })
			o.RestartWorkers()
			var p *PanicError
			if err := o.Wait(); !errors.As(err, &p) || p.Stage != "process" || len(p.Stack) == 0 {
				t.Errorf("ended with %v", err)
			}
			o.checkOrder(t, "")
			o.checkPlaces(t)
		})
	})
}

// checkPlaces wants every record in one place, and none in flight.
func (o *orderTest) checkPlaces(t *testing.T) {
	t.Helper()
	queue, inflight, ended := o.redis.state()
	all := slices.Clone(queue)
	for _, e := range ended {
		record, _, _ := strings.Cut(e, " ")
		all = append(all, record)
	}
	slices.Sort(all)
	if !slices.Equal(all, orderRecords) || len(inflight) > 0 {
		t.Errorf("queue %v, in flight %v, ended %v", queue, inflight, ended)
	}
}

func TestModeExecRunsEveryTaskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := startOrder(t, "", "", func(c *config.Config) { c.Mode, c.Worker.Command = config.ModeExec, []string{execCommand} })
		<-o.Ready()
		time.Sleep(500 * time.Millisecond)
		s := o.Status()
		if !s.Ready || s.Workers != orderSlots || s.InFlight != orderSlots || len(s.Slots) != orderSlots || len(s.Slots[0].Tasks) != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(3 * time.Second)
		if _, _, ended := o.redis.state(); len(ended) != len(orderRecords) {
			t.Errorf("ended: %v", ended)
		}
		if n := len(o.workers.all()); n != len(orderRecords) {
			t.Errorf("%d processes for %d tasks", n, len(orderRecords))
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestADeadlineInModeExec: SIGTERM at the deadline, SIGKILL after the grace, and
// what is reported is a failure.
func TestADeadlineInModeExec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := startOrder(t, "", "process", func(c *config.Config) {
			c.Mode, c.Worker.Command, c.TaskTimeout = config.ModeExec, []string{execCommand}, 10*time.Second
		})
		time.Sleep(14900 * time.Millisecond)
		if _, inflight, ended := o.redis.state(); len(ended) != 0 || len(inflight) < orderSlots {
			t.Errorf("within the grace: in flight %v, ended %v", inflight, ended)
		}
		select {
		case <-o.workers.all()[0].asked:
		default:
			t.Error("no SIGTERM at the deadline")
		}
		time.Sleep(200 * time.Millisecond)
		if _, _, ended := o.redis.state(); !slices.Equal(ended, []string{"a failed", "b failed", "c failed"}) {
			t.Errorf("ended: %v", ended)
		}
		o.Abort()
		if err := o.Wait(); err != nil {
			t.Error(err)
		}
	})
}

var supervisedStages = []string{"stop", "supervise", "health", "redis", "local redis"}

func supervisedConfig(c *config.Config) {
	c.Mode, c.Replicas, c.Worker.Command = config.ModeSupervise, 2, []string{supervisedCommand}
}

// TestStopOrderInModeSupervise: the workers end before the connections and the
// local Redis, whichever stage dies first and whether the stages stop when asked
// or not.
func TestStopOrderInModeSupervise(t *testing.T) {
	for _, first := range supervisedStages {
		for _, stubborn := range []string{"", "process", "health", "redis", "local redis"} {
			t.Run(first+" dies, "+stubborn+" ignores", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := startOrder(t, first, stubborn, supervisedConfig)
					<-o.Ready()
					if s := o.Status(); !s.Ready || s.Workers != 2 || len(s.Slots) != 2 || s.Capacity != 0 {
						t.Errorf("%+v", s)
					}
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
					if broken := first != "stop"; broken != (err != nil) {
						t.Errorf("ended with %v", err)
					}
					if took := time.Since(began); took > 26*time.Second || (stubborn == "" && took > 2*time.Second) {
						t.Errorf("took %v", took)
					}
					o.checkSupervised(t)
				})
			})
		}
	}
}

func (o *orderTest) checkSupervised(t *testing.T) {
	t.Helper()
	synctest.Wait()
	o.journal.mu.Lock()
	lines := slices.Clone(o.journal.lines)
	o.journal.mu.Unlock()
	gone := map[string]bool{}
	for _, line := range lines {
		name, what, _ := cutLast(line)
		if what == "gone" {
			gone[name] = true
			continue
		}
		for _, before := range supervisedStages[:slices.Index(supervisedStages, name)] {
			if !gone[before] {
				t.Errorf("%s was asked to stop while %s was there:\n%s", name, before, strings.Join(lines, "\n"))
			}
		}
	}
	if len(gone) != len(supervisedStages) {
		t.Errorf("gone: %v", gone)
	}
	if n := o.workers.left(); n > 0 {
		t.Errorf("%d workers are left", n)
	}
	queue, inflight, ended := o.redis.state()
	if !slices.Equal(queue, orderRecords) || len(inflight)+len(ended) > 0 || o.redis.registered() != "" {
		t.Errorf("it claimed: queue %v, in flight %v, ended %v, run %q", queue, inflight, ended, o.redis.registered())
	}
}

func TestASecondSignalEndsSupervisedWorkersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := startOrder(t, "", "process", supervisedConfig)
		<-o.Ready()
		o.Stop()
		time.Sleep(5 * time.Second)
		if o.workers.left() != 2 {
			t.Error("they were killed within the budget")
		}
		began := time.Now()
		o.Abort()
		if err := o.Wait(); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("took %v", d)
		}
		o.checkSupervised(t)
	})
}

// TestSupervisedWorkersAndALostRedis: it is said once that Redis is awaited, and
// once that it is back; workers that run go on meanwhile, those that end wait.
func TestSupervisedWorkersAndALostRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &testlog.Buffer{}
		o := startOrder(t, "", "", func(c *config.Config) {
			supervisedConfig(c)
			c.Log = slog.New(slog.NewTextHandler(log, nil))
		})
		lose := func(lost bool) {
			o.redis.set(func() { o.redis.away = lost })
		}
		lose(true)
		time.Sleep(9 * time.Second)
		if n := len(o.workers.all()); n != 0 {
			t.Errorf("%d started without Redis", n)
		}
		if log.Count("redis is lost, waiting for it") != 1 {
			t.Error("not said once that it waits")
		}
		lose(false)
		<-o.Ready()
		if log.Count("redis is back") != 1 {
			t.Error("not said once that it is back")
		}
		lose(true)
		time.Sleep(20 * time.Second)
		if s := o.Status(); s.Ready || !s.RedisLost || s.Workers != 2 {
			t.Errorf("while it is lost: %+v", s)
		}
		o.workers.all()[0].kill()
		time.Sleep(time.Minute)
		if n := len(o.workers.all()); n != 2 {
			t.Errorf("%d starts while it is lost", n)
		}
		lose(false)
		time.Sleep(10 * time.Second)
		if s := o.Status(); !s.Ready || s.RedisLost || s.Workers != 2 {
			t.Errorf("when it is back: %+v", s)
		}
		if log.Count("redis is back") != 2 || log.Count("redis is lost, waiting for it") != 2 {
			t.Error("losses and returns are not said once each")
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestQuietLeavesSupervisedWorkersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := startOrder(t, "", "", supervisedConfig)
		<-o.Ready()
		o.Quiet()
		synctest.Wait()
		if s := o.Status(); s.State != Running || !s.Ready {
			t.Errorf("%+v", s)
		}
		o.RestartWorkers()
		time.Sleep(10 * time.Second)
		if n := len(o.workers.all()); n != 4 {
			t.Errorf("%d starts after a renewal of 2", n)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
}
