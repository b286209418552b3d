package lease_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAStopWithRedisAwayIsShort: it tries to leave for two seconds, and says that the lease
// will expire.
func TestAStopWithRedisAwayIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(time.Second)
		b.store.set(func() { b.store.down = true })
		began := time.Now()
		b.finish(t)
		if d := time.Since(began); d != 2*time.Second || b.store.leaves < 6 || !strings.Contains(b.log.String(), "its lease will expire") {
			t.Errorf("took %v and %d attempts; the log is\n%s", d, b.store.leaves, b.log.String())
		}
	})
}

// TestAStopBeforeRedisIsThere: the run may be a member, so one attempt is made to leave it. No
// stage has got the run.
func TestAStopBeforeRedisIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startOn(t, &store{down: true})
		time.Sleep(time.Minute)
		b.finish(t)
		if b.store.leaves != 1 || len(b.registered) > 0 || b.RunID() != "" || strings.Contains(b.log.String(), "lease will expire") {
			t.Errorf("%d attempts to leave, registered %v, the run is %q; the log is\n%s", b.store.leaves, b.registered, b.RunID(), b.log.String())
		}
	})
}

// TestAStopBeforeTheStart: no run is registered and none is left.
func TestAStopBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bundle{store: &store{}}
		b.Lease = newLease(b)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Run(ended); err != nil {
			t.Error(err)
		}
		b.Leave(t.Context())
		if len(b.store.members) > 0 || b.store.leaves > 0 {
			t.Errorf("registered %v, and %d attempts to leave", b.store.members, b.store.leaves)
		}
	})
}

// TestAStopWithoutTimeLeft: nothing is sent after the end of the hard context.
func TestAStopWithoutTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(time.Second)
		b.hard()
		b.finish(t)
		if b.store.leaves != 0 {
			t.Errorf("%d attempts to leave", b.store.leaves)
		}
	})
}

// TestAStopDuringACall: what a call returns after the shutdown signal is ignored. A stop does
// not fail because of it, registers no other run and ends no tasks.
func TestAStopDuringACall(t *testing.T) {
	for name, when := range map[string]time.Duration{"the first registration": 0, "a tick": time.Second} {
		for what, refuse := range map[string]func(s *store){
			"outdated": func(s *store) { s.outdated = true },
			"gone":     func(s *store) { s.members = nil },
			"accepted": func(*store) {},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := &store{slow: 500 * time.Millisecond}
					if when == 0 {
						refuse(st)
					}
					b := startOn(t, st)
					time.Sleep(when + 100*time.Millisecond)
					if when > 0 {
						b.store.set(func() { refuse(b.store) })
						time.Sleep(500 * time.Millisecond) // into the first tick
					}
					synctest.Wait()
					before := slices.Clone(b.registered)
					b.finish(t)
					if renewed, _ := b.store.calls(); renewed > 0 || len(b.lost) > 0 || !slices.Equal(b.registered, before) {
						t.Errorf("%d renewals, lost %v, registered %v and %v before", renewed, b.lost, b.registered, before)
					}
				})
			})
		}
	}
}

// TestAStopDuringAnOutage: after it nothing is renewed, also if Redis is back.
func TestAStopDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(1500 * time.Millisecond)
		b.store.set(func() { b.store.down = true })
		time.Sleep(950 * time.Millisecond) // between two attempts, which are 100 ms apart
		b.store.set(func() { b.store.down = false })
		b.finish(t)
		if renewed, _ := b.store.calls(); renewed != 0 || !slices.Equal(b.store.left, []string{"run1"}) {
			t.Errorf("%d renewals, left %v", renewed, b.store.left)
		}
	})
}
