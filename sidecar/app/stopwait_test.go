package app

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestAStopWaitsForRedisOnlySoLong: Redis goes while tasks run, and does not come
// back. The stop waits for it for its bound, and not for its whole budget, says so,
// names what could not be reported, and ends without an error.
func TestAStopWaitsForRedisOnlySoLong(t *testing.T) {
	for _, c := range []struct {
		name        string
		wait        time.Duration
		asks        bool          // the tasks wait for Redis themselves
		back        time.Duration // after the signal; 0: never
		least, most time.Duration
		reminders   int
		reported    bool
	}{
		{name: "the default", wait: 8 * time.Second, least: 8 * time.Second, most: 11 * time.Second, reminders: 3},
		{name: "shorter", wait: 2 * time.Second, least: 2 * time.Second, most: 5 * time.Second, reminders: 1},
		{name: "not at all", wait: 0, most: 3 * time.Second},
		{name: "longer than the budget", wait: time.Hour, least: 20 * time.Second, most: 25 * time.Second, reminders: 8},
		{name: "redis returns in time", wait: 8 * time.Second, back: 5 * time.Second, least: 5 * time.Second, most: 7 * time.Second, reminders: 2, reported: true},
		{name: "tasks wait for it", wait: 8 * time.Second, asks: true, least: 8 * time.Second, most: 12 * time.Second, reminders: 3},
		{name: "tasks wait for it, and it returns", wait: 8 * time.Second, asks: true, back: 5 * time.Second, least: 5 * time.Second, most: 8 * time.Second, reminders: 2, reported: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log testlog.Buffer
				o := startOrder(t, "", "", func(cfg *config.Config) {
					cfg.StopRedisWait, cfg.Redis.PingInterval = c.wait, 100*time.Millisecond
					cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
				})
				o.workers.set(func() { o.workers.asks = c.asks })
				time.Sleep(time.Second) // in mid-work
				o.running = o.redis.inflightNow()
				o.redis.set(func() { o.redis.down = true })
				time.Sleep(5 * time.Second)
				began := time.Now()
				o.Stop()
				if c.back > 0 {
					time.AfterFunc(c.back, func() { o.redis.set(func() { o.redis.down = false }) })
				}
				if err := o.Wait(); err != nil {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took < c.least || took > c.most {
					t.Errorf("took %v, want %v to %v\n%s", took, c.least, c.most, log.String())
				}
				o.checkOrder(t, "")
				o.checkRecords(t, c.reported)
				if n := strings.Count(log.String(), `"the stop waits for redis"`); n != c.reminders {
					t.Errorf("%d lines say what the stop waits for, want %d\n%s", n, c.reminders, log.String())
				}
				_, inflight, _ := o.redis.state()
				if n := strings.Count(log.String(), `"not reported before the end`); n != len(inflight) {
					t.Errorf("%d outcomes are named, %d are in flight\n%s", n, len(inflight), log.String())
				}
			})
		})
	}
}
