package app

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultfs"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestABadDiskHoldsUpNeitherStartNorStop: the disk of the spool hangs, is full or fails from
// the start on. Tasks run, and a stop without Redis ends in its time and names the outcomes.
func TestABadDiskHoldsUpNeitherStartNorStop(t *testing.T) {
	for name, c := range map[string]struct {
		fault faultfs.Fault
		wait  time.Duration // for Redis
		most  time.Duration // of the stop
	}{
		"hung":                             {fault: faultfs.Fault{Hang: true}, wait: time.Second, most: 25 * time.Second},
		"hung, and nothing is left for it": {fault: faultfs.Fault{Hang: true}, wait: time.Hour, most: 25*time.Second + spoolAtLeast},
		"full":                             {fault: faultfs.Fault{Err: unix.ENOSPC}, wait: time.Second, most: 5 * time.Second},
		"failing":                          {fault: faultfs.Fault{Err: unix.EIO}, wait: time.Second, most: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := faultfs.New("/spool")
				disk.Inject = func(int, faultfs.Op) *faultfs.Fault { return &c.fault }
				defer close(disk.Resume)
				redis, workers, log := newFakeRedis("", orderRecords...), &fakeWorkers{slow: 700 * time.Millisecond}, &testlog.Buffer{}
				cfg := DefaultConfig()
				cfg.WorkerID, cfg.Slots, cfg.Log = "stall", orderSlots, slog.New(slog.NewTextHandler(log, nil))
				cfg.Worker.Command, cfg.SpoolDir, cfg.StopRedisWait = []string{"fake"}, "/spool", c.wait
				began := time.Now()
				a, err := start(t.Context(), cfg, hooks{Set: testhook.Set{Start: workers.start, SpoolFiles: disk}, backend: redis.backend})
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the start waited for %v", took)
				}
				<-a.Ready()
				time.Sleep(time.Second) // in mid-work
				redis.set(func() { redis.down = true })
				time.Sleep(5 * time.Second)
				began = time.Now()
				a.Stop()
				if err := a.Wait(); err != nil {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took > c.most {
					t.Errorf("the stop took %v, want %v at most", took, c.most)
				}
				for _, want := range []string{"spool cannot be written now", "outcomes could not be spooled", "not reported before the end: it will be delivered again"} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("the log has no %q:\n%s", want, log)
					}
				}
			})
		})
	}
}

// TestTasksDoNotWaitForTheSpool: what earlier runs left is reported for as long as the sidecar
// lives, over a slow link. Tasks run meanwhile, and a stop ends it.
func TestTasksDoNotWaitForTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis, workers := newFakeRedis("", orderRecords...), &fakeWorkers{slow: 700 * time.Millisecond}
		var reporting atomic.Bool
		slowSpool := func(a *App) backend {
			b := redis.backend(a)
			b.closeSpool = func() {}
			b.spool = func(ctx context.Context) {
				reporting.Store(true)
				<-ctx.Done()
				reporting.Store(false)
			}
			return b
		}
		cfg := DefaultConfig()
		cfg.WorkerID, cfg.Slots, cfg.Log = "spooled", orderSlots, slog.New(slog.DiscardHandler)
		cfg.Worker.Command = []string{"fake"}
		a, err := start(t.Context(), cfg, hooks{Set: testhook.Set{Start: workers.start}, backend: slowSpool})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, _, ended := redis.state(); len(ended) != len(orderRecords) {
			t.Errorf("ended are %v, want all of %v", ended, orderRecords)
		}
		if !reporting.Load() {
			t.Error("the spool is not being reported")
		}
		a.Stop()
		if err := a.Wait(); err != nil {
			t.Errorf("ended with %v", err)
		}
		if reporting.Load() {
			t.Error("the report of the spool outlives the sidecar")
		}
	})
}
