package store

import "context"

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
