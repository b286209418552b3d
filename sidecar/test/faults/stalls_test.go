//go:build faults

package faults

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// stall is a time in which this machine did not get around to something: to
// us, or to Redis.
type stall struct{ from, to time.Time }

// stalls watches for them. Whoever counts another's absence begins to count
// again when Redis does not answer within a second, or when it comes too late
// itself: on a machine with far more to do than it can, a recovery takes longer
// for that, by no fault of the sidecar.
type stalls struct {
	mu   sync.Mutex
	seen []stall
	stop context.CancelFunc
	done chan struct{}
}

const (
	// stallEvery is how often it looks, stallLeast what is a stall: half of
	// what a tick may be late.
	stallEvery = 100 * time.Millisecond
	stallLeast = 250 * time.Millisecond
	// startsOver is how long counting takes from the beginning: three looks and
	// the one that was disturbed. It is what docs/guarantees.md adds for a
	// disturbed network.
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
			// A Redis that is away is a test's own doing, and no stall.
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

// excuse is the latest time for something that is due by then and that began
// at from: each stall before that begins it anew, for which it has again.
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

// longest is the longest one, and how many there were.
func (s *stalls) longest() (longest time.Duration, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen {
		longest = max(longest, x.to.Sub(x.from))
	}
	return longest, len(s.seen)
}
