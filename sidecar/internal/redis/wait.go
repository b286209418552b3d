package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Wait blocks until a record arrives in the queue, for at most d (whole seconds, at least
// one), and reports whether one did. The record is then in the run's inbox, from where
// [Store.Claim] takes it; a lost reply loses nothing. Wait returns [ErrGone] if a new
// connection leads to a server that does not know the run.
//
// The end of ctx does not end a Wait that has begun: BLMOVE cannot be revoked, and the
// record that it moved must be found. Cancel ctx and then call [Store.Unblock], or wait
// for d. One Wait runs at a time; others wait for it.
func (s *Store) Wait(ctx context.Context, run string, d time.Duration) (bool, error) {
	d = max(d.Round(time.Second), time.Second)
	from := "LEFT"
	if s.o.QueueRight {
		from = "RIGHT"
	}
	unblocked, err := s.wait.block(ctx, d, func(ctx context.Context, c *goredis.Conn, fresh bool) error {
		if fresh {
			if err := s.knows(ctx, c, run); err != nil {
				return err
			}
		}
		return c.BLMove(ctx, s.keys.queue(), s.keys.inbox(run), from, "RIGHT", d).Err()
	})
	switch {
	case errors.Is(err, errMoved):
		return true, nil
	case unblocked || isNilReply(err):
		return false, nil
	}
	return err == nil, failure("wait", err)
}

// knows returns ErrGone if the server of a connection does not know the run: it may be
// another server than that of the claims, and waiting there would bring nothing or take
// records from other sidecars. A server that refuses the question counts as the right
// one.
func (s *Store) knows(ctx context.Context, c *goredis.Conn, run string) error {
	member, err := c.SIsMember(ctx, s.keys.own("runs"), run).Result()
	switch {
	case err != nil && !isReply(err):
		return err
	case err == nil && !member:
		return ErrGone
	default:
		return nil
	}
}

// Unblock ends a Wait early. It returns when the Wait has ended, and at once without one.
// It has no effect if Redis does not know or allow CLIENT UNBLOCK, or if CLIENT PAUSE
// delays the command: the Wait then ends by itself.
func (s *Store) Unblock(ctx context.Context) error {
	return failure("unblock", s.wait.unblock(ctx))
}

// CanUnblock reports whether [Store.Unblock] could have ended the last Wait, as far as
// known: the server has told the id of the connection. It waits for a running Wait.
func (s *Store) CanUnblock() bool {
	s.wait.busy.Lock()
	defer s.wait.busy.Unlock()
	return s.wait.conn != nil && s.wait.id != idNone
}

// waiter provides the connection of the waits, taken from the client's pool. A separate
// client would be simpler, but when Sentinels change the master, go-redis cuts only the
// connections of the client that received the message: another client would keep waiting
// at the old master.
type waiter struct {
	c     goredis.UniversalClient
	queue string

	busy sync.Mutex // locked while a command blocks; guards the next four fields
	conn *goredis.Conn
	node *goredis.Client // the client of conn
	id   int64           // the id of conn
	used time.Time       // the last use of conn

	mu      sync.Mutex
	via     goredis.UniversalClient // another client for the server of the wait
	blocked int64                   // id of the waiting connection; idUnknown, idNone
	asked   bool                    // unblock was sent for this wait
	done    chan struct{}           // closed at the end of the wait; nil without one
}

const (
	idUnknown = -1 // not connected yet
	idNone    = 0  // the server does not report it
)

const (
	// replyGrace is the delay of a reply after which the connection counts as broken;
	// go-redis alone would wait ten seconds for a frozen server.
	replyGrace = 2 * time.Second
	// leastGrace is the delay for a longer wait: one that began on a dead connection must
	// end as soon as a short one.
	leastGrace = time.Second
	// keepConn is the time for which the waiter keeps the connection between waits.
	// Successive waits of an idle sidecar share it and its CLIENT ID; after a pause the
	// pool checks its health first.
	keepConn = time.Second
)

// block runs a blocking command on its own connection, and tells the command whether the
// connection is fresh. It reports whether unblock has ended it.
func (w *waiter) block(ctx context.Context, d time.Duration, op func(ctx context.Context, c *goredis.Conn, fresh bool) error) (unblocked bool, err error) {
	w.busy.Lock()
	defer w.busy.Unlock()
	bounded, cancel := context.WithTimeout(ctx, d+max(replyGrace-(d-time.Second), leastGrace))
	defer cancel()
	node, err := w.server(bounded)
	if err != nil {
		return false, err
	}
	w.begin(node)
	defer func() { unblocked = w.end() && goredis.HasErrorPrefix(err, "UNBLOCKED ") }()
	// After begin, so that a cancellation followed by Unblock cannot come in between.
	if err := ctx.Err(); err != nil {
		return false, err
	}
	fresh, err := w.connect(bounded, node)
	if err == nil {
		err = op(bounded, w.conn, fresh)
	}
	if goredis.HasErrorPrefix(err, "UNBLOCKED ") {
		// A command that was unblocked while CLIENT PAUSE delayed it is still executed
		// when the pause ends, and answers once more. That answer would be taken for the
		// one to the next command.
		spoil(w.conn)
	}
	w.used = time.Now()
	if err != nil && !isNilReply(err) {
		w.release()
		if cluster, ok := w.c.(*goredis.ClusterClient); ok && !errors.Is(err, errMoved) {
			cluster.ReloadState(ctx) // in the background: the queue may have moved
		}
	}
	return false, err
}

// connect ensures a connection to node, and reads its id if the server reports it. It
// reports whether the connection is a new one.
func (w *waiter) connect(ctx context.Context, node *goredis.Client) (fresh bool, err error) {
	if w.conn != nil && (w.node != node || time.Since(w.used) > keepConn) {
		w.release()
	}
	if w.conn == nil {
		fresh = true
		w.conn, w.node = node.Conn(), node
		id, err := w.conn.ClientID(ctx).Result()
		if err != nil && !isReply(err) {
			return false, err
		}
		w.id = id // idNone if CLIENT ID is refused
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = w.id
	return fresh, nil
}

// release returns the connection to its pool, which drops a broken one.
func (w *waiter) release() {
	if w.conn != nil {
		_ = w.conn.Close() // the only error is that it was closed before
		w.conn, w.node = nil, nil
	}
}

// server returns the client of the server that has the queue.
func (w *waiter) server(ctx context.Context) (*goredis.Client, error) {
	switch c := w.c.(type) {
	case *goredis.Client:
		return c, nil
	case *goredis.ClusterClient:
		return c.MasterForKey(ctx, w.queue)
	default:
		return nil, errors.New("this kind of Redis client cannot wait")
	}
}

func (w *waiter) begin(via goredis.UniversalClient) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.via, w.blocked, w.asked, w.done = via, idUnknown, false, make(chan struct{})
}

// end ends the wait and reports whether unblock had requested its end.
func (w *waiter) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.done)
	w.via, w.done = nil, nil
	return w.asked
}

// unblockPause is the pause before the second attempt to unblock a connection that does
// not block yet, because its BLMOVE is on the way; each further pause is twice as long.
// Newer servers (seen with Valkey 8.1) do not unblock a command that CLIENT PAUSE delays:
// its wait runs out, and few attempts are made meanwhile.
const (
	unblockPause    = 2 * time.Millisecond
	maxUnblockPause = 100 * time.Millisecond
)

func (w *waiter) unblock(ctx context.Context) error {
	w.mu.Lock()
	done := w.done
	w.mu.Unlock()
	if done == nil {
		return nil
	}
	next := unblockPause
	pause := time.NewTimer(next)
	defer pause.Stop()
	for {
		w.mu.Lock()
		id, via, current := w.blocked, w.via, w.done == done
		if current && id != idUnknown {
			w.asked = true
		}
		w.mu.Unlock()
		if id == idNone || !current {
			return nil
		}
		if id != idUnknown {
			// With ERROR: without it, a command that CLIENT PAUSE delays crashes Redis
			// before 7.0.16 ("Unknown btype in replyToBlockedClientTimedOut").
			if err := via.ClientUnblockWithError(ctx, id).Err(); isReply(err) {
				return nil
			} else if err != nil {
				return err
			}
		}
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
			next = min(2*next, maxUnblockPause)
			pause.Reset(next)
		}
	}
}
