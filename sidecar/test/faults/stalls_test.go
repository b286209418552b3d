//go:build faults

package faults

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// stall is a time in which this machine did not run the test process, or Redis.
type stall struct{ from, to time.Time }

// stalls collects the stalls of the machine. A sidecar that counts another sidecar's absence
// begins to count again when Redis does not answer within a second, or when its own look
// comes too late. So a recovery takes longer on an overloaded machine, through no fault of
// the sidecar.
type stalls struct {
	mu   sync.Mutex
	seen []stall
	stop context.CancelFunc
	done chan struct{}
}

const (
	// stallEvery is the interval of looks at the machine. A look that is late by more than
	// stallLeast is a stall; that is half of the delay that a sidecar's tick may have.
	stallEvery = 100 * time.Millisecond
	stallLeast = 250 * time.Millisecond
	// startsOver is how long it takes to count an absence from the beginning: three looks
	// and the one that was disturbed. docs/guarantees.md adds as much for a disturbed
	// network.
	startsOver = 4 * time.Second
)

func watchStalls(c *redis.Client) *stalls {
	ctx, stop := context.WithCancel(context.Background())
	s := &stalls{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		ticker := time.NewTicker(stallEvery)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// A Redis that is away is a fault that the test causes, and no stall.
			err := c.Ping(ctx).Err()
			now := time.Now()
			if err == nil && now.Sub(last) > stallEvery+stallLeast {
				s.mu.Lock()
				s.seen = append(s.seen, stall{last, now})
				s.mu.Unlock()
			}
			last = now
		}
	}()
	return s
}

func (s *stalls) close() {
	s.stop()
	<-s.done
}

// excuse returns the latest permitted time for something that began at from and is due at
// due: each stall in between makes it start over, and allows it the time again from the end
// of the stall.
func (s *stalls) excuse(from, due time.Time, again time.Duration) time.Time {
	if s == nil {
		return due
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen {
		if x.to.After(from) && x.from.Before(due) && x.to.Add(again).After(due) {
			due = x.to.Add(again)
		}
	}
	return due
}

// longest returns the length of the longest stall, and the number of stalls.
func (s *stalls) longest() (longest time.Duration, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen {
		longest = max(longest, x.to.Sub(x.from))
	}
	return longest, len(s.seen)
}
