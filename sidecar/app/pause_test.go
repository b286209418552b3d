package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// person is a store of its own, as a user has it with the commands.
func (b *bundle) person() *redis.Store {
	b.t.Helper()
	c, err := redis.NewClient(redis.ClientOptions{URL: redistest.New(b.t).URL})
	if err != nil {
		b.t.Fatal(err)
	}
	st, err := redis.New(c, redis.Options{Prefix: b.prefix})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = st.Close() })
	return st
}

// run is the id of the one member.
func (b *bundle) run(st *redis.Store) (id string) {
	b.t.Helper()
	await(b.t, "a run", func() bool {
		runs, err := st.Fleet(context.Background())
		if err != nil || len(runs) != 1 {
			return false
		}
		id = runs[0].ID
		return true
	})
	return id
}

func (b *bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) awaitState(want app.State) {
	b.t.Helper()
	await(b.t, string(want), func() bool { return b.app.Status().State == want })
}

// Each reason to claim nothing ends by itself, and while there is one nothing is
// claimed.
func TestPauseAndQuietAreApart(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	st, ctx := b.person(), t.Context()
	run := b.run(st)
	b.awaitState(app.Running)
	b.must(st.Pause(ctx, run, "me"))
	b.awaitState(app.Paused)
	b.app.Quiet()
	b.must(st.Pause(ctx, fleet.AllRuns, "me"))
	b.must(st.Unpause(ctx, run))
	b.push(job{TaskID: "t", SessionID: b.prefix})
	b.must(st.Unpause(ctx, fleet.AllRuns))
	b.awaitState(app.Quiet)
	if got := fmt.Sprint(b.queue(), b.app.Status().InFlight); got != "[t] 0" {
		t.Errorf("while there is a reason: queue and in flight %s", got)
	}
	b.app.Resume()
	b.awaitState(app.Running)
	await(t, "the task", func() bool { return b.result(b.prefix, "t") == `"t done"` })
}

// A sidecar that starts while all are paused claims nothing, not even once.
func TestStartsPaused(t *testing.T) {
	t.Parallel()
	b := &bundle{t: t, prefix: redistest.Prefix(t)}
	st := b.person()
	b.must(st.Pause(t.Context(), fleet.AllRuns, "me"))
	prefix := b.prefix
	b = setup(t, func(c *config.Config) {
		c.KeyPrefix = prefix
		c.WorkerID = "paused"
	})
	b.prefix = prefix
	b.push(job{TaskID: "t", SessionID: b.prefix})
	b.awaitState(app.Paused)
	await(t, "a worker", func() bool { return b.app.Status().Workers > 0 })
	if text := b.rdb.HGet(t.Context(), b.prefix+":sidecar:meta:"+b.run(st), "seq").Val(); text != "" {
		t.Errorf("%s records were claimed", text)
	}
	b.must(st.Unpause(t.Context(), fleet.AllRuns))
	await(t, "the task", func() bool { return b.result(b.prefix, "t") == `"t done"` })
}

// A pause outlives the run that it was asked of, when that was given up for dead
// while its sidecar goes on.
func TestPauseOutlivesTheRun(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	st, ctx := b.person(), t.Context()
	run := b.run(st)
	b.must(st.Pause(ctx, run, "me"))
	b.awaitState(app.Paused)
	b.must(st.Leave(ctx, run))
	await(t, "another run", func() bool { return b.run(st) != run })
	own, all, err := st.Paused(ctx, b.run(st))
	if got := fmt.Sprint(own, all, err, " ", b.app.Status().State); got != "true false <nil> paused" {
		t.Error(got)
	}
}

func TestDrainByOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	st := b.person()
	b.must(st.SendCommand(t.Context(), b.run(st), fleet.Command{Action: fleet.Drain, By: "ann"}))
	if err := within(t, 30*time.Second, b.app); err != nil {
		t.Error(err)
	}
	if text := b.log.String(); !strings.Contains(text, "stopping by command") || !strings.Contains(text, "by=ann") {
		t.Error("the log does not name the operator")
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestChildrenAreReplacedByOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.Slots = 2 })
	st := b.person()
	run := b.run(st)
	pids := func() map[int]int {
		m := make(map[int]int)
		for _, s := range b.app.Status().Slots {
			if !s.Leaving {
				m[s.Slot] = s.Pid
			}
		}
		return m
	}
	await(t, "two workers", func() bool { return len(pids()) == 2 })
	old := pids()
	b.must(st.SendCommand(t.Context(), run, fleet.Command{Action: fleet.RestartChild, Slot: 1, By: "me"}))
	await(t, "another worker in slot 1", func() bool { now := pids(); return len(now) == 2 && now[1] != old[1] })
	if pids()[0] != old[0] {
		t.Error("the worker in slot 0 was replaced, too")
	}
	b.must(st.SendCommand(t.Context(), run, fleet.Command{Action: fleet.RestartChild, Slot: 7}))
	taken := func() bool { return b.rdb.LLen(t.Context(), b.prefix+":sidecar:orders:"+run).Val() == 0 }
	await(t, "the command for a slot without a worker to be taken", taken)
	b.must(st.SendCommand(t.Context(), run, fleet.Command{Action: fleet.RestartChildren}))
	await(t, "another worker in slot 0", func() bool { now := pids(); return len(now) == 2 && now[0] != old[0] })
	b.must(st.SendCommand(t.Context(), run, fleet.Command{Action: "dance"}))
	await(t, "the unknown command to be taken", taken)
	if b.run(st) != run {
		t.Error("the run was replaced")
	}
}
