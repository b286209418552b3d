package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed enqueue.lua
var enqueueLua string
var enqueueScript = change(enqueueLua)

// Enqueue adds a record to the tail of the queue for a delivery in flight. It returns
// [ErrEnded] for a delivery that is not in flight.
func (s *Store) Enqueue(ctx context.Context, t Turn, delivery string, record []byte) error {
	_, err := s.change(ctx, "enqueue", enqueueScript, t, runOf(delivery), delivery, s.keys.queue(), grows, record)
	return err
}
