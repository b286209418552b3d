package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("connection refused")

// store is a Store in memory.
type store struct {
	mu      sync.Mutex
	down    bool
	members []string
	dead    []string
	renewed int
	ticks   int
	reaped  []string
	failed  int // calls of Reap that are still to fail
	left    []string
	leaves  int           // calls of Leave, also those that failed
	slow    time.Duration // between a registration, tick or renewal and its reply
	// outdated refuses registrations and ticks, as Redis does where the keys have a newer format.
	outdated bool
}

// errOutdated is how a Store says so.
var errOutdated = fmt.Errorf("format: %w", lease.ErrOutdated)

func (s *store) do(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	return f()
}

func (s *store) Register(_ context.Context, run string) error {
	var slow time.Duration
	err := s.do(func() error {
		slow = s.slow
		if s.outdated {
			return errOutdated
		}
		s.members = append(s.members, run)
		return nil
	})
	time.Sleep(slow)
	return err
}

func (s *store) Renew(_ context.Context, run string) error {
	var slow time.Duration
	err := s.do(func() error {
		slow = s.slow
		if !slices.Contains(s.members, run) {
			return lease.ErrGone
		}
		s.renewed++
		return nil
	})
	time.Sleep(slow)
	return err
}

func (s *store) Tick(_ context.Context, run string) (dead []string, err error) {
	var slow time.Duration
	err = s.do(func() error {
		slow = s.slow
		if !slices.Contains(s.members, run) {
			return lease.ErrGone
		}
		if s.outdated {
			return errOutdated
		}
		s.ticks++
		dead = slices.Clone(s.dead)
		return nil
	})
	time.Sleep(slow)
	return dead, err
}

func (s *store) Reap(_ context.Context, _, dead string) error {
	return s.do(func() error {
		if s.failed > 0 {
			s.failed--
			return errDown
		}
		s.reaped = append(s.reaped, dead)
		s.dead = slices.DeleteFunc(s.dead, func(r string) bool { return r == dead })
		return nil
	})
}

func (s *store) Leave(_ context.Context, run string) error {
	s.set(func() { s.leaves++ })
	return s.do(func() error { s.left = append(s.left, run); return nil })
}

func (s *store) Recover(ctx context.Context, err error) error {
	if errors.Is(err, lease.ErrOutdated) {
		return err
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
	return nil
}

func (s *store) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *store) calls() (renewed, ticks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed, s.ticks
}

func (s *store) reapedNow() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reaped)
}

type bundle struct {
	*lease.Lease
	store      *store
	lost       []string
	registered []string
	log        testlog.Buffer
	soft, hard context.CancelFunc
	ended      chan error
}

func start(t *testing.T) *bundle {
	t.Helper()
	return startOn(t, &store{})
}

func startOn(t *testing.T, st *store) *bundle {
	t.Helper()
	b := &bundle{store: st, ended: make(chan error, 1)}
	b.Lease = newLease(b)
	soft, cancelSoft := context.WithCancel(t.Context())
	hard, cancelHard := context.WithCancel(t.Context())
	b.soft, b.hard = cancelSoft, cancelHard
	go func() {
		err := b.Run(soft)
		b.Leave(hard)
		b.ended <- err
	}()
	return b
}

// newLease returns a lease on the store of the bundle, whose runs are run1, run2, …
func newLease(b *bundle) *lease.Lease {
	n := 0
	return (&lease.Lease{
		Store: b.store, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		NewRun:       func() string { n++; return fmt.Sprint("run", n) },
		OnFenced:     func(run string) { b.lost = append(b.lost, run) },
		OnRegistered: func(run string) { b.registered = append(b.registered, run) },
	}).Init()
}

func (b *bundle) finish(t *testing.T) {
	t.Helper()
	b.soft()
	if err := <-b.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	b.hard()
}

func TestARunIsRegisteredRenewedAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		run, err := b.Current(t.Context())
		if err != nil || run != "run1" {
			t.Fatalf("%q, %v", run, err)
		}
		time.Sleep(10*time.Second + 1)
		b.finish(t)
		if b.store.renewed != 0 || b.store.ticks != 10 {
			t.Errorf("%d ticks in 10 s, and %d renewals besides", b.store.ticks, b.store.renewed)
		}
		if !slices.Equal(b.store.left, []string{"run1"}) || !slices.Equal(b.registered, []string{"run1"}) {
			t.Errorf("registered %v, left %v", b.registered, b.store.left)
		}
	})
}

func TestRenewNowRenewsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(500 * time.Millisecond)
		b.RenewNow()
		synctest.Wait()
		if renewed, ticks := b.store.calls(); renewed != 1 || ticks != 0 {
			t.Errorf("%d renewals and %d ticks", renewed, ticks)
		}
		time.Sleep(time.Second)
		b.finish(t)
		if b.store.renewed != 1 || b.store.ticks != 1 {
			t.Errorf("%d renewals and %d ticks after that", b.store.renewed, b.store.ticks)
		}
		b.RenewNow() // after the end it does not block
	})
}

func TestADeadRunIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(500 * time.Millisecond)
		b.store.set(func() { b.store.dead = []string{"a", "b"} })
		time.Sleep(time.Second)
		if got := b.store.reapedNow(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("reaped %v", got)
		}
		time.Sleep(10 * time.Second)
		b.finish(t)
		if len(b.store.reaped) != 2 {
			t.Errorf("reaped %v", b.store.reaped)
		}
	})
}

// TestAnErrorIsFollowedByARenewal: after an error the lease is renewed before anything
// else, and the next tick follows a whole second later.
func TestAnErrorIsFollowedByARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(1500 * time.Millisecond)
		b.store.set(func() { b.store.down = true })
		time.Sleep(time.Minute)
		_, before := b.store.calls()
		b.store.set(func() { b.store.down = false })
		time.Sleep(900 * time.Millisecond)
		if renewed, ticks := b.store.calls(); renewed != 1 || ticks != before {
			t.Errorf("%d renewals, %d ticks at once", renewed, ticks-before)
		}
		time.Sleep(500 * time.Millisecond)
		if _, ticks := b.store.calls(); ticks == before {
			t.Error("no tick after that")
		}
		b.finish(t)
	})
}

// TestAFailedReapIsRepeated: it is an error like any other, so a renewal follows, and the next
// tick reaps.
func TestAFailedReapIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.dead, b.store.failed = []string{"a"}, 1 })
		time.Sleep(1500 * time.Millisecond)
		if renewed, _ := b.store.calls(); renewed != 1 || len(b.store.reapedNow()) != 0 {
			t.Errorf("%d renewals, reaped %v", renewed, b.store.reapedNow())
		}
		time.Sleep(time.Second)
		if got := b.store.reapedNow(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("reaped %v", got)
		}
		b.finish(t)
	})
}

// TestARegistrationIsRepeated: until Redis has accepted it. No stage gets the run before.
func TestARegistrationIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startOn(t, &store{down: true})
		time.Sleep(time.Minute)
		if b.RunID() != "" {
			t.Errorf("without Redis the run is %q", b.RunID())
		}
		b.store.set(func() { b.store.down = false })
		if run, err := b.Current(t.Context()); run != "run1" || err != nil || !slices.Equal(b.store.members, []string{"run1"}) {
			t.Errorf("%q, %v; members are %v", run, err, b.store.members)
		}
		b.finish(t)
	})
}

func TestAGoneRunLetsGoAndStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		if _, err := b.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.store.set(func() { b.store.members = nil })
		if stillMember, err := b.Gone(t.Context(), "run1"); err != nil || stillMember { // an operation was refused
			t.Fatal(stillMember, err)
		}
		if run, _ := b.Current(t.Context()); run != "run2" {
			t.Errorf("now %q", run)
		}
		if !slices.Equal(b.lost, []string{"run1"}) {
			t.Errorf("lost %v", b.lost)
		}
		b.finish(t)
		if !slices.Equal(b.store.left, []string{"run2"}) {
			t.Errorf("left %v", b.store.left)
		}
	})
}

// TestAnOutdatedSidecarWritesNothing: a sidecar that does not know the format of the keys ends its tasks and writes nothing more:
// it does not even leave its run, and no stage gets a run to write for.
func TestAnOutdatedSidecarWritesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		lost []string // the runs whose tasks are ended
	}{{"at its start", nil}, {"at a tick", []string{"run1"}}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startOn(t, &store{outdated: c.lost == nil})
				if c.lost != nil {
					if _, err := b.Current(t.Context()); err != nil {
						t.Fatal(err)
					}
					b.store.set(func() { b.store.outdated = true })
				}
				if err := <-b.ended; !errors.Is(err, lease.ErrOutdated) {
					t.Errorf("ended with %v", err)
				}
				if _, err := b.Current(t.Context()); !errors.Is(err, lease.ErrOutdated) {
					t.Errorf("a stage that waits for a run gets %v", err)
				}
				if still, _ := b.Gone(t.Context(), "run1"); still {
					t.Error("the run is said to be a member")
				}
				if len(b.store.left) > 0 || !slices.Equal(b.lost, c.lost) {
					t.Errorf("left %v; ended the tasks of %v, want %v", b.store.left, b.lost, c.lost)
				}
			})
		})
	}
}

// TestAFalseAlarmKeepsTheRun: an operation reached another server. A renewal finds the
// run to be a member, and the operation is repeated.
func TestAFalseAlarmKeepsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		if _, err := b.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if stillMember, err := b.Gone(t.Context(), "run1"); !stillMember || err != nil {
				t.Errorf("Gone: %t, %v", stillMember, err)
			}
		}
		if renewed, _ := b.store.calls(); renewed != 3 {
			t.Errorf("%d renewals for 3 alarms", renewed)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b.store.set(func() { b.store.down = true })
		if stillMember, err := b.Gone(ctx, "run1"); stillMember || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with Redis away: %t, %v", stillMember, err)
		}
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				if stillMember, err := b.Gone(t.Context(), "run1"); !stillMember || err != nil {
					t.Errorf("after an outage: %t, %v", stillMember, err)
				}
			})
		}
		time.Sleep(time.Minute)
		b.store.set(func() { b.store.down = false })
		waiting.Wait()
		if run, _ := b.Current(t.Context()); run != "run1" || len(b.lost) != 0 {
			t.Errorf("now %q, lost %v", run, b.lost)
		}
		b.finish(t)
	})
}

// TestOnlyALaterRenewalEndsAnAlarm: a renewal that was under way before a refusal does
// not answer it, since the run may have been reaped in between.
func TestOnlyALaterRenewalEndsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		if _, err := b.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.store.set(func() { b.store.slow = 400 * time.Millisecond })
		time.Sleep(1100 * time.Millisecond) // into a tick
		b.store.set(func() { b.store.members = nil })
		if stillMember, err := b.Gone(t.Context(), "run1"); stillMember || err != nil {
			t.Errorf("Gone: %t, %v", stillMember, err)
		}
		if run, _ := b.Current(t.Context()); run != "run2" {
			t.Errorf("now %q", run)
		}
		b.finish(t)
	})
}

// TestTwoServersAreLoggedOnce: a conflict of two servers is logged once, and again when
// it has been over for a while. Neither a justified alarm nor one for a former run is
// logged.
func TestTwoServersAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		if _, err := b.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		warned := func(what string, want int) {
			t.Helper()
			time.Sleep(5 * time.Second)
			if got := strings.Count(b.log.String(), "two redis servers"); got != want {
				t.Errorf("%s: %d warnings, want %d:\n%s", what, got, want, b.log.String())
			}
		}
		alarm := func(run string) {
			t.Helper()
			if _, err := b.Gone(t.Context(), run); err != nil {
				t.Error(err)
			}
		}
		b.store.set(func() { b.store.members = nil })
		alarm("run1")
		warned("the run is lost", 0)
		alarm("run1")
		warned("an alarm for a run that is over", 0)
		for range 30 {
			alarm("run2")
			time.Sleep(5 * time.Second)
		}
		warned("it goes on for minutes", 1)
		time.Sleep(time.Minute)
		alarm("run2")
		warned("it is back", 2)
		time.Sleep(55 * time.Second)
		alarm("run2")
		warned("it is back a minute after the last one", 3)
		time.Sleep(55*time.Second - 1)
		alarm("run2")
		warned("it is back in less than a minute", 3)
		b.finish(t)
	})
}

func TestAnOutageOfAnyLengthKeepsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		time.Sleep(3 * time.Second)
		b.store.set(func() { b.store.down = true })
		time.Sleep(time.Hour)
		b.store.set(func() { b.store.down = false })
		time.Sleep(5 * time.Second)
		if run, _ := b.Current(t.Context()); run != "run1" || len(b.lost) != 0 {
			t.Errorf("now %q, lost %v", run, b.lost)
		}
		b.finish(t)
	})
}

// A stop that begins when Redis is just back leaves its run: the client refuses to connect for
// up to a second then. One without Redis waits for two seconds.
func TestLeaveOutlastsTheRefusalsOfAClient(t *testing.T) {
	for name, away := range map[string]time.Duration{"back": 1100 * time.Millisecond, "away": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t)
				time.Sleep(2 * time.Second)
				b.store.set(func() { b.store.down = true })
				began := time.Now()
				time.AfterFunc(away, func() { b.store.set(func() { b.store.down = false }) })
				b.finish(t)
				took := time.Since(began)
				if left := len(b.store.left); left != 1 && name == "back" || took > 2*time.Second {
					t.Errorf("left %d times, after %v", left, took)
				}
			})
		})
	}
}
