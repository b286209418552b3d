// Package link connects the loops of the stages with Redis. It reports the success of
// operations to the health monitor and decides how to recover from their errors.
package link

import (
	"context"
	"errors"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// RefusedError is the error of an operation that Redis refuses permanently: wrong password,
// missing permission, wrong database, keys of another type.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string {
	_, format := errors.AsType[*redis.FormatError](e.Err)
	_, queue := errors.AsType[*redis.QueueError](e.Err)
	if format || queue {
		return "redis refuses this sidecar: " + e.Err.Error()
	}
	if _, wrongType := errors.AsType[*redis.WrongTypeError](e.Err); wrongType { // it says what to do
		return "redis refuses this sidecar: " + e.Err.Error()
	}
	return "redis refuses this sidecar: " + e.Err.Error() + " (check the address, the credentials, the permissions and the key prefix)"
}

// Unwrap returns the reply of Redis.
func (e *RefusedError) Unwrap() error { return e.Err }

// ErrClosed means that the connections were closed before the loops that use them ended.
var ErrClosed = errors.New("internal error: the connections to redis closed too early")

// ErrUnavailable means that Redis is known to be unreachable, so nothing was sent.
var ErrUnavailable = errors.New("redis is away")

// Lease owns the registered run of the sidecar. *lease.Lease implements it.
type Lease interface {
	// Current waits until a run is registered and returns it.
	Current(ctx context.Context) (string, error)
	// Gone reports that Redis does not know a run. stillMember means that a renewal has
	// found the run to be a member nevertheless.
	Gone(ctx context.Context, run string) (stillMember bool, err error)
}

// Link connects one loop with Redis. It informs the health monitor and the lease, and decides
// how to recover from an error. One goroutine may use it at a time.
type Link struct {
	Lease Lease
	Run   string // of the last operation
	// Pause is the pause between attempts at an operation that Redis refuses temporarily
	// (OOM, READONLY, LOADING …), and after a connection has failed again.
	Pause *backoff.Backoff

	mon       *health.Monitor
	reconnect func(ctx context.Context)
}

// New returns a link. reconnect, if not nil, makes all operations except those of the lease
// dial new connections.
func New(lease Lease, mon *health.Monitor, pause backoff.Policy, reconnect func(ctx context.Context)) *Link {
	return &Link{Lease: lease, mon: mon, Pause: backoff.New(pause), reconnect: reconnect}
}

// Open must be called before every operation. It returns ErrUnavailable while Redis is known
// to be unreachable: only the health monitor probes it then.
func (k *Link) Open() error {
	if k.mon.Away() {
		return ErrUnavailable
	}
	return nil
}

// OK records the success of an operation.
func (k *Link) OK() {
	k.Pause.Reset()
	k.mon.OK()
}

// Recover waits after an error until a retry makes sense. It returns an error if no retry can
// succeed.
func (k *Link) Recover(ctx context.Context, err error) error {
	if errors.Is(err, ErrUnavailable) {
		_ = k.mon.WaitReached(ctx) // the caller checks ctx
		return nil
	}
	switch redis.Classify(err) {
	case redis.ClassFatal:
		if _, known := errors.AsType[*RefusedError](err); known {
			return err // the lease has been refused, and with it all stages
		}
		return &RefusedError{err}
	case redis.ClassCanceled:
		if ctx.Err() == nil {
			// The connections of this sidecar are closed and stay closed.
			return ErrClosed
		}
		return nil
	case redis.ClassGone:
		if stillMember, _ := k.Lease.Gone(ctx, k.Run); stillMember { // the caller checks ctx
			k.reconnectElsewhere(ctx)
		}
		return nil
	default:
		k.mon.Failed(err)
		if k.mon.WaitReached(ctx) == nil {
			k.Pause.Sleep(ctx)
		}
		return nil
	}
}

// Await waits until a ping succeeds, and reports whether the first one failed. It returns
// an error if Redis refuses the sidecar permanently, and none when ctx ends. timeout bounds
// one ping.
func (k *Link) Await(ctx context.Context, ping func(ctx context.Context) error, timeout time.Duration) (waited bool, err error) {
	for ctx.Err() == nil {
		bounded, done := context.WithTimeout(ctx, timeout)
		err := ping(bounded)
		done()
		switch {
		case err == nil:
			k.OK()
			return waited, nil
		case ctx.Err() != nil:
		default:
			waited = true
			if err := k.Recover(ctx, err); err != nil {
				return waited, err
			}
		}
	}
	return waited, nil
}

// reconnectTimeout bounds the closing of the connections to the wrong server.
const reconnectTimeout = time.Second

// reconnectElsewhere handles an operation that has reached another server than the lease: a
// proxy or a host name leads to two servers, and a connection stays with the one that it has
// reached. It closes the connections of all stages, since the requests of workers would
// otherwise be answered by the wrong server, and pauses.
func (k *Link) reconnectElsewhere(ctx context.Context) {
	if k.reconnect != nil {
		bounded, cancel := context.WithTimeout(ctx, reconnectTimeout)
		k.reconnect(bounded)
		cancel()
	}
	k.Pause.Sleep(ctx)
}
