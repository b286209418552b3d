package app

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
)

// hungWorkers have slots for tasks, and take none.
type hungWorkers struct{ lane stage.Lane }

func (h hungWorkers) Run(soft, _ context.Context) error {
	h.lane.AddCapacity(orderSlots)
	<-soft.Done()
	h.lane.AddCapacity(-orderSlots)
	return nil
}

func (hungWorkers) Up() int              { return orderSlots }
func (hungWorkers) Restart()             {}
func (hungWorkers) RestartSlot(int) bool { return false }
func (hungWorkers) Evict(string)         {}
func (hungWorkers) CrashLoop() bool      { return false }
func (hungWorkers) Slots() []worker.Slot { return nil }

// TestStalledWorkers: tasks that take days in all slots are no reason to restart the
// sidecar, and a stage of worker.Pool that no longer takes tasks is one.
func TestStalledWorkers(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   config.Mode
		hung   func(o stage.Options) worker.Pool
		reason string
	}{
		{"long tasks, rpc", config.ModeRPC, nil, ""},
		{"long tasks, exec", config.ModeExec, nil, ""},
		{"hung", config.ModeRPC, func(o stage.Options) worker.Pool { return hungWorkers{o.Lane(0)} }, "no worker has taken the next task"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				redis := newFakeRedis("", orderRecords...)
				processes := &fakeWorkers{slow: 48 * time.Hour}
				cfg := DefaultConfig()
				cfg.WorkerID, cfg.Slots, cfg.Mode, cfg.Log = "stalled", orderSlots, c.mode, slog.New(slog.DiscardHandler)
				cfg.Worker.Command = []string{"fake"}
				if c.mode == config.ModeExec {
					cfg.Worker.Command = []string{execCommand}
				}
				a, err := start(t.Context(), cfg, hooks{Set: testhook.Set{Pool: c.hung, Start: processes.start}, backend: redis.backend})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					a.Abort()
					_ = a.Wait()
				}()
				bound := a.watchdog.HandoverLimit
				for began := time.Now(); time.Since(began) < bound; time.Sleep(10 * time.Second) {
					if got := a.Stalled(); got != "" {
						t.Errorf("stuck after %v: %s", time.Since(began), got)
					}
				}
				time.Sleep(bound)
				if got := a.Stalled(); (got == "") != (c.reason == "") || !strings.Contains(got, c.reason) {
					t.Errorf("after twice the bound %q, want %q", got, c.reason)
				}
				if h := a.obs.Health(); h.Alive != (c.reason == "") {
					t.Errorf("%+v", h)
				}
			})
		})
	}
}
