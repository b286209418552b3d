package app

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatienceGrowsWhileNothingComes(t *testing.T) {
	var long atomic.Bool
	var unrouted atomic.Int64
	p := patience{long: &long}
	next := func(what string, endable bool, want time.Duration) {
		t.Helper()
		if got := p.begin(endable, func() bool { return unrouted.Load() > 0 }); got != want || long.Load() != (want == longWait) {
			t.Errorf("%s: %v, said to be long: %t, want %v", what, got, long.Load(), want)
		}
	}
	for range dryWaits {
		next("at first", true, waitFor)
		p.end(true)
	}
	next("nothing came", true, longWait)
	p.end(true)
	next("a stop could not end it", false, waitFor)
	p.end(true)
	unrouted.Store(1)
	next("others have put records aside", true, waitFor)
	p.end(true)
	unrouted.Store(0)
	next("nothing comes", true, longWait)
	p.end(false)
	next("a record came, or an error", true, waitFor)
	if long.Load() {
		t.Error("a short wait is said to be long")
	}

	p = patience{dry: dryWaits}
	next("with kinds of workers", true, waitFor)
	p.end(true)
}

// No arrival tells of records that another sidecar has put aside.
func TestALongWaitEndsForUnroutedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRedis("")
		a := &App{}
		a.queue = a.newQueue()
		a.redis = f.backend(a)
		for _, c := range []struct {
			what     string
			unrouted int64
			long     bool
			want     int
		}{{"a short wait", 1, false, 0}, {"a long wait", 1, true, 1}, {"a long wait for nothing", 0, true, 0}} {
			a.unrouted.Store(c.unrouted)
			a.waitsLong.Store(c.long)
			a.told(false, false, nil)
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
