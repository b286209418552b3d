// Package backoff computes growing, jittered pauses between attempts. It is
// used wherever the sidecar tries something again: Redis, children, reports.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy says how pauses grow. Both bounds are required.
type Policy struct {
	Min time.Duration // the first pause's upper bound
	Max time.Duration // no pause is longer
	// Full is for full jitter: a pause is anything from nothing to its bound.
	Full bool
}

// Backoff counts failures in a row. The zero count means healthy. It belongs
// to one goroutine.
type Backoff struct {
	policy Policy
	fails  int
}

// New returns a Backoff with no failures counted.
func New(p Policy) *Backoff { return &Backoff{policy: p} }

// Reset forgets the failures: the next pause is short again.
func (b *Backoff) Reset() { b.fails = 0 }

// Failures is how often Next was called since the last Reset.
func (b *Backoff) Failures() int { return b.fails }

// Next counts one failure and returns the pause before the next attempt:
// doubling from Min, capped at Max, with equal jitter (between half of it and
// all of it) unless the policy says otherwise. Full jitter was tried for Redis
// and left: its shortest pauses hit a Redis that is just restarting with a burst
// from every sidecar.
func (b *Backoff) Next() time.Duration {
	d := b.policy.Ceiling(b.fails)
	b.fails++
	if b.policy.Full {
		return rand.N(d + 1)
	}
	return d/2 + rand.N(d/2+1)
}

// Ceiling is the un-jittered pause after n failures before this one.
func (p Policy) Ceiling(n int) time.Duration {
	d := p.Min
	for range n {
		if d >= p.Max/2 {
			return p.Max
		}
		d *= 2
	}
	return min(d, p.Max)
}

// Sleep pauses for Next, or until ctx ends, and reports whether the whole
// pause was taken.
func (b *Backoff) Sleep(ctx context.Context) bool { return Sleep(ctx, b.Next()) }

// Sleep pauses for d or until ctx ends, and reports whether the whole pause
// was taken.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
