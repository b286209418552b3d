package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
)

func TestCeilingDoublesToMax(t *testing.T) {
	p := backoff.Policy{Min: 100 * time.Millisecond, Max: time.Second}
	for n, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		if got := p.Ceiling(n); got != want*time.Millisecond {
			t.Errorf("after %d failures: %v, want %v", n, got, want*time.Millisecond)
		}
	}
	if got := p.Ceiling(10_000); got != time.Second {
		t.Errorf("after very many failures: %v, want the cap", got)
	}
}

func TestNextStaysBetweenHalfAndAll(t *testing.T) {
	p := backoff.Policy{Min: 100 * time.Millisecond, Max: time.Second}
	for range 200 {
		b := backoff.New(p)
		for n := range 8 {
			c := p.Ceiling(n)
			if d := b.Next(); d < c/2 || d > c {
				t.Fatalf("failure %d: pause %v outside [%v, %v]", n, d, c/2, c)
			}
		}
		b.Reset()
		if d := b.Next(); d > p.Min {
			t.Fatalf("after Reset: %v", d)
		}
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if backoff.Sleep(ctx, time.Minute) {
			t.Error("a cut pause says it was whole")
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("slept %v", got)
		}
		if !backoff.Sleep(t.Context(), time.Minute) {
			t.Error("a whole pause says it was cut")
		}
	})
}
