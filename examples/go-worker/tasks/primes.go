package tasks

import (
	"context"
	"fmt"
	"math"

	"github.com/graflow/graflow-sidecar/protocol"
)

const (
	// maxPrime keeps the primes that a sieve starts from, those up to its
	// square root, in a megabyte.
	maxPrime = 1_000_000_000_000
	// segment is how many numbers are sieved at a time: what a cache holds.
	segment = 1 << 18
)

type primesParams struct {
	// From and To are the range to search, To not included; 0 to a million if
	// both are absent.
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

type primesValue struct {
	Count int64 `json:"count"`
	// Largest is 0 if there is none.
	Largest int64 `json:"largest"`
}

// primes counts the prime numbers of a range with a segmented sieve of
// Eratosthenes.
func primes(ctx context.Context, t *protocol.Task, p primesParams) (any, error) {
	if p == (primesParams{}) {
		p.To = 1_000_000
	}
	if p.From < 0 || p.To < p.From || p.To > maxPrime {
		return nil, fmt.Errorf("params: from %d to %d is not a range within 0 to %d", p.From, p.To, int64(maxPrime))
	}
	var found primesValue
	small := smallPrimes(int(math.Sqrt(float64(p.To))) + 1)
	composite := make([]bool, segment)
	for low := max(p.From, 2); low < p.To; low += segment {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := composite[:min(segment, p.To-low)]
		clear(part)
		strike(part, low, small)
		for i, c := range part {
			if !c {
				found.Count++
				found.Largest = low + int64(i)
			}
		}
		done := low + int64(len(part))
		t.Progress(float64(done-p.From)/float64(p.To-p.From), fmt.Sprintf("%d primes up to %d", found.Count, done))
	}
	return found, nil
}

// strike marks the multiples of the small primes in the numbers from low on.
func strike(composite []bool, low int64, small []int64) {
	high := low + int64(len(composite))
	for _, p := range small {
		if p*p >= high {
			return
		}
		first := max(p*p, (low+p-1)/p*p)
		for n := first - low; n < int64(len(composite)); n += p {
			composite[n] = true
		}
	}
}

// smallPrimes lists the primes up to n.
func smallPrimes(n int) (all []int64) {
	composite := make([]bool, n+1)
	for p := 2; p <= n; p++ {
		if composite[p] {
			continue
		}
		all = append(all, int64(p))
		for m := p * p; m <= n; m += p {
			composite[m] = true
		}
	}
	return all
}
