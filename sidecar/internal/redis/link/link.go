// Package link is how the loops of the stages call Redis: what comes before each
// operation, what its success tells the rest of the sidecar, and what its error means.
package link

import (
	"context"
	"errors"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// RefusedError says that Redis will not have us whatever we do: wrong
// password, missing permission, wrong database, keys of another kind.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string {
	return "redis refuses this sidecar: " + e.Err.Error() + " (check the address, the credentials, the permissions and the key prefix)"
}

// Unwrap gives the reply.
func (e *RefusedError) Unwrap() error { return e.Err }

// ErrClosed: the connections closed before the loops that use them had ended.
var ErrClosed = errors.New("internal error: the connections to redis closed too early")

// ErrAway: the connection is known to be dead, so nothing was said.
var ErrAway = errors.New("redis is away")

// Lease is the run that the sidecar has registered. *lease.Lease is one.
type Lease interface {
	// Current returns the run, once there is one.
	Current(ctx context.Context) (string, error)
	// Gone tells that Redis does not know a run. It reports whether the lease, which has
	// asked again, knows better.
	Gone(ctx context.Context, run string) (held bool, err error)
}

// Link is one loop's way to Redis: it keeps the health monitor and the lease
// informed and decides what an error means. One goroutine uses it at a time.
type Link struct {
	Lease Lease
	Run   string // of the last operation
	// Pause is between attempts at an operation that Redis answers with a refusal that
	// passes (OOM, READONLY, LOADING …), and after a connection has come back without
	// working.
	Pause *backoff.Backoff

	mon       *health.Monitor
	reconnect func(ctx context.Context)
}

// New makes a link. reconnect, if not nil, has all operations but those of the lease
// dial anew.
func New(lease Lease, mon *health.Monitor, pause backoff.Policy, reconnect func(ctx context.Context)) *Link {
	return &Link{Lease: lease, mon: mon, Pause: backoff.New(pause), reconnect: reconnect}
}

// Open comes before every operation. One that is bound to fail is not tried:
// the health monitor finds out when Redis is back, and nobody else asks.
func (k *Link) Open() error {
	if k.mon.Away() {
		return ErrAway
	}
	return nil
}

// OK notes an operation's success.
func (k *Link) OK() {
	k.Pause.Reset()
	k.mon.OK()
}

// Recover waits until it makes sense to try again.
func (k *Link) Recover(ctx context.Context, err error) error {
	if errors.Is(err, ErrAway) {
		_ = k.mon.WaitReached(ctx) // ctx's end is the caller's to see
		return nil
	}
	switch redis.Classify(err) {
	case redis.ClassFatal:
		return &RefusedError{err}
	case redis.ClassCanceled:
		if ctx.Err() == nil {
			// Our own connections are closed, and nobody opens them again.
			return ErrClosed
		}
		return nil
	case redis.ClassGone:
		if held, _ := k.Lease.Gone(ctx, k.Run); held { // ctx's end is the caller's to see
			k.elsewhere(ctx)
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

// Await waits until a ping gets through, and reports whether it had to. It returns an
// error where Redis refuses us for good, and none when ctx ends. timeout is that of one
// ping.
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

// reconnectTimeout bounds the end of the connections to a server that is not ours.
const reconnectTimeout = time.Second

// elsewhere comes after an operation that has met another server than the lease does: a
// proxy or a name leads to two, and a connection stays with the one that it has
// reached. The next operations have new ones, after a pause; those of others, too, since
// what workers ask would get answers of that server.
func (k *Link) elsewhere(ctx context.Context) {
	if k.reconnect != nil {
		bounded, cancel := context.WithTimeout(ctx, reconnectTimeout)
		k.reconnect(bounded)
		cancel()
	}
	k.Pause.Sleep(ctx)
}
