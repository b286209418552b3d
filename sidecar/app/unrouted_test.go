package app

import (
	"log/slog"
	"testing"
	"testing/synctest"
)

// No arrival tells of records that another sidecar has put aside.
func TestALongWaitEndsForUnroutedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRedis("")
		cfg := DefaultConfig()
		cfg.Log = slog.New(slog.DiscardHandler)
		a := newApp(cfg, hooks{})
		a.redis = f.backend(a)
		for _, c := range []struct {
			what     string
			unrouted int64
			long     bool
			want     int
		}{{"a short wait", 1, false, 0}, {"a long wait", 1, true, 1}, {"a long wait for nothing", 0, true, 0}} {
			a.parked.Unrouted.Store(c.unrouted)
			a.waitsLong.Store(c.long)
			a.onTick(false, false, nil)
			synctest.Wait()
			if got := len(f.unwait); got != c.want {
				t.Errorf("%s was ended %d times, want %d", c.what, got, c.want)
			}
			for len(f.unwait) > 0 {
				<-f.unwait
			}
		}
	})
}
