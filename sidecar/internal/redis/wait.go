package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Wait blocks until a record arrives in the queue, for at most d (whole
// seconds, at least one), and reports whether one did. The record is then in
// the run's inbox, from where [Store.Claim] takes it; a reply that is lost
// loses nothing. It returns [ErrGone] where a connection that it has not used before
// leads to a server that does not know the run.
//
// The end of ctx does not end a Wait that has begun: BLMOVE cannot be taken
// back, and what it moved must be found. Cancel ctx and then call
// [Store.Unblock], or wait out d. One Wait runs at a time; others queue up.
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

// knows returns ErrGone where the server at the other end does not know the run: it may
// be another one than claims reach, where nothing would ever come, and what came would
// be taken from others. One that refuses the question is taken for ours.
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

// Unblock ends a Wait early. It returns when the Wait has ended, at once when
// there is none, and without effect where Redis does not know, or does not
// allow, CLIENT UNBLOCK, or not for a command that CLIENT PAUSE holds back: then the
// Wait ends by itself.
func (s *Store) Unblock(ctx context.Context) error {
	return failure("unblock", s.wait.unblock(ctx))
}

// CanUnblock reports whether [Store.Unblock] could have ended the last Wait, as far
// as is known: the server tells who we are. A Wait that runs is waited for.
func (s *Store) CanUnblock() bool {
	s.wait.busy.Lock()
	defer s.wait.busy.Unlock()
	return s.wait.conn != nil && s.wait.id != idNone
}

// waiter gives waits a connection of their own, out of the client's pool. A
// separate client would be simpler, but when Sentinels change the master,
// go-redis cuts only connections of the client that it told: another one would
// go on waiting on the old master.
type waiter struct {
	c     goredis.UniversalClient
	queue string

	busy sync.Mutex // held while a command blocks; guards the next four
	conn *goredis.Conn
	node *goredis.Client // where conn comes from
	id   int64           // conn's
	used time.Time       // when conn was used last

	mu      sync.Mutex
	via     goredis.UniversalClient // another way to the server that the wait is on
	blocked int64                   // the id of the waiting connection; idUnknown, idNone
	asked   bool                    // unblock has been sent for this wait
	done    chan struct{}           // closed at the end of the wait; nil when none
}

const (
	idUnknown = -1 // not connected yet
	idNone    = 0  // the server does not tell
)

const (
	// replyGrace is how long a reply may be late before the connection counts
	// as broken; go-redis alone would give a frozen server ten seconds.
	replyGrace = 2 * time.Second
	// leastGrace is that of a longer wait: one that began on a dead connection is
	// to be over as soon as a short one is.
	leastGrace = time.Second
	// keepConn is how long the connection stays with the waiter between waits.
	// One wait after the other, as in an idle sidecar, shares it and with it
	// the CLIENT ID; after a pause the pool looks at its health first.
	keepConn = time.Second
)

// block runs a blocking command on a connection of its own, and tells it whether that
// has just been taken. It reports whether unblock has ended it.
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
	// After begin, so that "cancel, then Unblock" cannot slip in between.
	if err := ctx.Err(); err != nil {
		return false, err
	}
	fresh, err := w.connect(bounded, node)
	if err == nil {
		err = op(bounded, w.conn, fresh)
	}
	if goredis.HasErrorPrefix(err, "UNBLOCKED ") {
		// A command that was unblocked while CLIENT PAUSE held it back is done all the
		// same when the pause is over, and answers once more: that answer would be taken
		// for the one to the next command.
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

// connect sees to it that there is a connection to node whose id is known if
// the server tells it, and reports whether that is another one than before.
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
		w.id = id // idNone where CLIENT ID is refused
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = w.id
	return fresh, nil
}

// release gives the connection back to its pool, which drops a broken one.
func (w *waiter) release() {
	if w.conn != nil {
		_ = w.conn.Close() // says only that it was closed before
		w.conn, w.node = nil, nil
	}
}

// server is the one that has the queue.
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

// end reports whether the wait was to be ended by unblock.
func (w *waiter) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.done)
	w.via, w.done = nil, nil
	return w.asked
}

// unblockPause is before the second attempt to unblock a connection that does not
// block yet, its BLMOVE being on the way; each further pause is twice as long. Newer
// servers (seen: Valkey 8.1) do not unblock a command that CLIENT PAUSE holds back:
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
			// With ERROR: without it a command that CLIENT PAUSE holds back brings
			// Redis before 7.0.16 down ("Unknown btype in replyToBlockedClientTimedOut").
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
