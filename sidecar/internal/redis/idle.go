package redis

import (
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// CheckIdle has each idle connection of the client's pool answer a PING, one
// after another, and returns how many did not: the client has closed those. A
// connection that was cut without a word looks well until it is used, and whoever
// used it would wait for the whole of a read timeout.
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

// Reconnect has the next calls dial: it closes the idle connections of the client's
// pool and that of the waits, unless a Wait runs. A Cluster's client is left alone,
// since its connections lead to nodes that say who they are. ctx bounds it.
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
		if conn.Ping(ctx).Err() == nil { // takes one out of the pool, or finds it dead
			spoil(conn)
		}
		_ = conn.Close() // says only that it was closed before
		if ctx.Err() != nil {
			return
		}
	}
}

// spoil has the pool drop a connection that has been used.
func spoil(conn *goredis.Conn) {
	over, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	_ = conn.Ping(over).Err() // fails before anything is sent
}
