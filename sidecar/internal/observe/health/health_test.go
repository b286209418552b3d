package health_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

var (
	errRefused = errors.New("connection refused")
	errOOM     = errors.New("OOM command not allowed")
)

func monitor(log *bytes.Buffer, ping func(context.Context) error) *health.Monitor {
	m := health.New()
	m.Ping = ping
	m.Reached = func(err error) bool { return errors.Is(err, errOOM) }
	m.Name = func(error) string { return "test" }
	m.Interval, m.Timeout = 5*time.Second, time.Second
	m.Log = slog.New(slog.NewTextHandler(log, nil))
	return m
}

func TestAnOutageIsLoggedOnceOnLossAndOnceOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := monitor(&log, func(context.Context) error { return nil })
		for range 90 { // one failure a 100 ms for 9 s
			m.Failed(errRefused)
			time.Sleep(100 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Fatalf("%d lines in the first 9 s of an outage, want 1:\n%s", n, &log)
		}
		for range 210 { // and to 30 s
			m.Failed(errRefused)
			time.Sleep(100 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Fatalf("%d lines in 30 s of an outage, want 3:\n%s", n, &log)
		}
		m.OK()
		m.OK()
		if n := strings.Count(log.String(), "redis is back"); n != 1 || !strings.Contains(log.String(), "after=30s") {
			t.Fatalf("return was logged %d times:\n%s", n, &log)
		}
	})
}

func TestDuringAStopALostRedisIsNotWritten(t *testing.T) {
	var log bytes.Buffer
	m := monitor(&log, nil)
	m.Stopping()
	m.Failed(errRefused)
	if log.Len() != 0 {
		t.Fatalf("wrote %q", log.String())
	}
}

func TestWaitersGoOnWhenAPingGetsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var down atomic.Bool
		var pings atomic.Int64
		m := monitor(&log, func(context.Context) error {
			pings.Add(1)
			if down.Load() {
				return errRefused
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()

		down.Store(true)
		m.Failed(errRefused)
		start := time.Now()
		time.AfterFunc(20*time.Second, func() { down.Store(false) })
		if err := m.WaitReached(ctx); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(start) - 20*time.Second; late < 0 || late > time.Second {
			t.Errorf("went on %v after Redis was back, want within 1 s", late)
		}
		if n := pings.Load(); n > 90 { // half a second apart at most, a quarter at least
			t.Errorf("%d pings in 20 s", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := m.WaitReached(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("WaitReached after the end: %v", err)
		}
	})
}

// A monitor that hears of Redis all the time sends no pings.
func TestOnlySilenceIsAReasonToPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var pings atomic.Int64
		m := monitor(&log, func(context.Context) error { pings.Add(1); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		for range 60 {
			m.OK()
			time.Sleep(time.Second)
		}
		if n := pings.Load(); n != 0 {
			t.Errorf("%d pings in a minute with an operation each second", n)
		}
		time.Sleep(21 * time.Second) // every 5 s, the first one 5 s after the last operation
		if n := pings.Load(); n != 4 {
			t.Errorf("%d pings in 22 s of silence", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestARefusalIsAReplyAndKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := monitor(&log, nil)
		m.Failed(errOOM)
		if err := m.WaitReached(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !m.Lost() {
			t.Error("an operation that is refused is not health")
		}
	})
}

// TestNobodyWaitsForAPingThatNobodySends: the monitor may be the first to go, and
// what follows it in a stop still has to be reported.
func TestNobodyWaitsForAPingThatNobodySends(t *testing.T) {
	for name, ping := range map[string]func(context.Context) error{
		"stopped": func(context.Context) error { return errRefused },
		"broken":  func(context.Context) error { panic("health is broken") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				m := monitor(&log, ping)
				ctx, cancel := context.WithCancel(t.Context())
				m.Failed(errRefused)
				if !m.Away() {
					t.Error("a refused connection is there")
				}
				time.AfterFunc(time.Minute, cancel)
				func() {
					defer func() { _ = recover() }()
					_ = m.Run(ctx)
				}()
				if err := m.WaitReached(t.Context()); err != nil || m.Away() {
					t.Errorf("away %v, waited: %v", m.Away(), err)
				}
				if m.Failed(errRefused); m.Away() {
					t.Error("a failure after the end makes others wait")
				}
				cancel()
			})
		})
	}
}

func TestIdleConnectionsAreCheckedUnlessRedisIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var down atomic.Bool
		m := monitor(&log, func(context.Context) error {
			if down.Load() {
				return errRefused
			}
			return nil
		})
		var checks atomic.Int64
		m.IdleInterval = 30 * time.Second
		m.CheckIdle = func(ctx context.Context) {
			checks.Add(1)
			<-ctx.Done() // one that does not answer
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		time.Sleep(95 * time.Second)
		if n := checks.Load(); n != 3 {
			t.Errorf("%d checks in 95 s, want one every 30 s", n)
		}
		down.Store(true)
		m.Failed(errRefused)
		time.Sleep(90 * time.Second)
		if n := checks.Load(); n != 3 {
			t.Errorf("%d checks while Redis was away", n-3)
		}
		down.Store(false)
		time.Sleep(31 * time.Second)
		if n := checks.Load(); n != 4 {
			t.Errorf("%d checks when Redis was back", n-3)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAPanicInTheCheckOfIdleConnectionsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := monitor(&log, func(context.Context) error { return nil })
		m.IdleInterval = time.Second
		m.CheckIdle = func(context.Context) { panic("oops") }
		var p *recoverpanic.Panic
		if err := m.Run(t.Context()); !errors.As(err, &p) || p.Value != "oops" {
			t.Errorf("ended with %v", err)
		}
	})
}
