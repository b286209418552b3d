package claim

import (
	"sync/atomic"
	"testing"
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
