package requests

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	// lockPoll is the pause between attempts to acquire a lock. It equals the pause of
	// redis-py, so that both have the same chance.
	lockPoll = 100 * time.Millisecond
	// unlockWithin bounds how long the release of the locks of an ended task is
	// attempted. After that the timeout of the lock ends it.
	unlockWithin = 3 * time.Second
)

// lock is a lock that a delivery has, or may have: it is recorded before the request to
// Redis.
type lock struct{ key, token string }

// locks are the locks of the running deliveries, by delivery.
type locks struct {
	mu         sync.Mutex
	byDelivery map[string][]lock
}

func (l *locks) add(delivery string, k lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byDelivery[delivery] = append(l.byDelivery[delivery], k)
}

func (l *locks) remove(delivery string, k lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := slices.DeleteFunc(l.byDelivery[delivery], func(other lock) bool { return other == k })
	if len(left) == 0 {
		delete(l.byDelivery, delivery)
		return
	}
	l.byDelivery[delivery] = left
}

func (l *locks) take(delivery string) []lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer delete(l.byDelivery, delivery)
	return l.byDelivery[delivery]
}

// lock acquires a lock, or answers that the lock stayed taken (P48). Between attempts
// it occupies no lane, so that a wait never delays other requests.
func (a *Server) lock(ctx context.Context, t *task.Task, ch *redis.Channel, q *protocol.TaskRequest) ([]byte, error) {
	k := lock{q.Key, redis.NewLockToken()}
	ttl := time.Duration(q.TimeoutMs) * time.Millisecond
	until := time.Now().Add(ttl)
	a.locks.add(t.Delivery, k)
	for {
		var taken bool
		err := a.redis(ctx, func(turn redis.Turn) (err error) {
			taken, err = ch.TryLock(ctx, turn, k.key, k.token, ttl)
			return err
		})
		switch {
		case err != nil:
			return nil, workerError(q.Key, err)
		case taken:
			return []byte(`{"token":"` + k.token + `"}`), nil
		case time.Until(until) < lockPoll || !backoff.Sleep(ctx, lockPoll):
			a.locks.remove(t.Delivery, k)
			return []byte(`{"token":null}`), ctx.Err()
		}
	}
}

func (a *Server) unlock(ctx context.Context, t *task.Task, ch *redis.Channel, q *protocol.TaskRequest) ([]byte, error) {
	var released bool
	err := a.redis(ctx, func(turn redis.Turn) (err error) {
		released, err = ch.Unlock(ctx, turn, q.Key, q.Token)
		return err
	})
	if err != nil {
		return nil, workerError(q.Key, err)
	}
	a.locks.remove(t.Delivery, lock{q.Key, q.Token})
	if released {
		return []byte(`{"released":true}`), nil
	}
	return []byte(`{"released":false}`), nil
}

// Ended releases the locks that a delivery still has.
func (a *Server) Ended(t *task.Task) {
	left := a.locks.take(t.Delivery)
	if len(left) == 0 {
		return
	}
	ch, err := a.channel(t)
	if err != nil {
		return // no locks
	}
	ctx, cancel := context.WithTimeout(context.Background(), unlockWithin)
	defer cancel()
	for _, k := range left {
		_ = a.redis(ctx, func(turn redis.Turn) error {
			_, err := ch.Unlock(ctx, turn, k.key, k.token)
			return err
		})
	}
}
