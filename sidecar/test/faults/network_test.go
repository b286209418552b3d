//go:build faults

package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestBadNetwork delays, slices, resets, refuses and stalls the connections to Redis: every
// task runs exactly once, no attempt is counted and no sidecar is taken for dead.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		// bad breaks the network again and again until stop is closed, and then repairs it.
		// It runs beside the test, so it has a plan of its own.
		bad func(w *world, rnd *rand.Rand, p *faultproxy.Proxy, stop <-chan struct{})
	}{
		{"latency 30 ms with 90 ms of jitter", shaped(faultproxy.Shape{Latency: 30 * time.Millisecond, Jitter: 90 * time.Millisecond})},
		{"bytes in slices of 11, 1 ms apart", shaped(faultproxy.Shape{Slice: 11, Gap: time.Millisecond})},
		{"slow by 600 ms, close to a lease's timeout", shaped(faultproxy.Shape{Latency: 250 * time.Millisecond, Jitter: 100 * time.Millisecond})},
		{"resets of all connections", func(w *world, rnd *rand.Rand, p *faultproxy.Proxy, stop <-chan struct{}) {
			for again(stop, time.Duration(100+rnd.IntN(300))*time.Millisecond) {
				w.hurt("reset")
				p.Reset()
			}
		}},
		{"refused and back", func(w *world, rnd *rand.Rand, p *faultproxy.Proxy, stop <-chan struct{}) {
			for again(stop, 400*time.Millisecond) {
				w.hurt("refused")
				p.Refuse()
				again(stop, time.Duration(rnd.IntN(2500))*time.Millisecond)
				if err := p.Accept(); err != nil {
					w.t.Error(err)
				}
			}
		}},
		{"silent and back", func(w *world, rnd *rand.Rand, p *faultproxy.Proxy, stop <-chan struct{}) {
			for again(stop, 400*time.Millisecond) {
				w.hurt("stalled")
				p.Stall()
				again(stop, time.Duration(rnd.IntN(2500))*time.Millisecond)
				p.Resume()
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.newProxy(w.server.Addr)
			w.crew(3, setup{proxy: p})
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				c.bad(w, random(t, 1), p, stop)
			}()
			for range 8 {
				w.group(w.work(6, 100)...)
				w.one(record{Ms: 50, Size: 5000})
				w.twice(record{})
				wait.Pass(time.Duration(500+w.rnd.IntN(1000)) * time.Millisecond)
			}
			close(stop)
			<-stopped
			w.goesOn(time.Now())
			w.noRunGivenUp()
			w.delay = 10 * time.Second // for groups that wait while the network is bad
			w.verify("network: " + c.name)
		})
	}
}

// shaped returns a network that has one shape until the stop.
func shaped(s faultproxy.Shape) func(*world, *rand.Rand, *faultproxy.Proxy, <-chan struct{}) {
	return func(w *world, _ *rand.Rand, p *faultproxy.Proxy, stop <-chan struct{}) {
		w.hurt("shape")
		p.SetShape(s)
		<-stop
		p.SetShape(faultproxy.Shape{})
	}
}

// again waits for d and reports whether the test still goes on.
func again(stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
	}
	select {
	case <-stop: // checked once more: both may have been due, and no fault may start now
		return false
	default:
		return true
	}
}
