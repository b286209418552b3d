package claim

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestBlockTimeoutGrowsWhileNoRecordComes(t *testing.T) {
	var long atomic.Bool
	var unrouted atomic.Int64
	p := blockTimeout{long: &long}
	next := func(what string, endable bool, want time.Duration) {
		t.Helper()
		if got := p.start(endable, func() bool { return unrouted.Load() > 0 }); got != want || long.Load() != (want == longWait) {
			t.Errorf("%s: %v, said to be long: %t, want %v", what, got, long.Load(), want)
		}
	}
	for range emptyWaitsBeforeLong {
		next("at first", true, shortWait)
		p.finish(true)
	}
	next("nothing came", true, longWait)
	p.finish(true)
	next("a stop could not end it", false, shortWait)
	p.finish(true)
	unrouted.Store(1)
	next("others have put records aside", true, shortWait)
	p.finish(true)
	unrouted.Store(0)
	next("nothing comes", true, longWait)
	p.finish(false)
	next("a record came, or an error", true, shortWait)
	if long.Load() {
		t.Error("a short wait is said to be long")
	}

	p = blockTimeout{emptyWaits: emptyWaitsBeforeLong}
	next("with kinds of workers", true, shortWait)
	p.finish(true)
}
