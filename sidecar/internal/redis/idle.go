package redis

import (
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// CheckIdle sends a PING on each idle connection of the pool and closes those without an
// answer; it returns their number. A connection that was cut silently looks healthy until
// it is used, and its user would wait for a whole read timeout.
func (s *Store) CheckIdle(ctx context.Context) (dead int) {
	for range s.c.PoolStats().IdleConns {
		if err := s.Ping(ctx); err != nil && !Answered(err) {
			dead++
		}
		if ctx.Err() != nil {
			break
		}
	}
	return dead
}

// Reconnect makes the next calls dial: it closes the idle connections of the pool and
// that of the waits, unless a Wait runs. It does nothing for a Cluster, whose client
// verifies its nodes. ctx bounds it.
func (s *Store) Reconnect(ctx context.Context) {
	c, single := s.c.(*goredis.Client)
	if !single {
		return
	}
	if s.wait.busy.TryLock() {
		if s.wait.conn != nil {
			spoil(s.wait.conn)
			s.wait.release()
		}
		s.wait.busy.Unlock()
	}
	for range c.PoolStats().IdleConns {
		conn := c.Conn()
		if conn.Ping(ctx).Err() == nil { // takes a connection out of the pool, or fails
			spoil(conn)
		}
		_ = conn.Close() // the only error is that it was closed before
		if ctx.Err() != nil {
			return
		}
	}
}

// spoil makes the pool drop a connection that has been used.
func spoil(conn *goredis.Conn) {
	over, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	_ = conn.Ping(over).Err() // fails before it sends
}
