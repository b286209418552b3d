package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// orderKeep is how long an order waits for its run, which looks each second: one
// that is found later has been given up by whoever gave it.
const orderKeep = time.Minute

// pause is what is kept of one.
type pause struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

// Pause has a run, or all of the prefix for [fleet.Everyone], claim nothing more
// until Unpause; what runs goes on. It takes a second to be heard. A run that
// starts while all are paused claims nothing either.
func (s *Store) Pause(ctx context.Context, run, by string) error {
	text, err := json.Marshal(pause{At: time.Now().UTC(), By: by})
	if err == nil {
		err = s.c.HSet(ctx, s.keys.own("paused"), run, text).Err()
	}
	return failure("pause", err)
}

// Unpause ends the pause of a run, or the one of all: neither ends the other.
func (s *Store) Unpause(ctx context.Context, run string) error {
	return failure("unpause", s.c.HDel(ctx, s.keys.own("paused"), run).Err())
}

// Paused reports which of a run and of all are paused.
func (s *Store) Paused(ctx context.Context, run string) (own, all bool, err error) {
	values, err := s.c.HMGet(ctx, s.keys.own("paused"), run, fleet.Everyone).Result()
	if s.lost(err) {
		err = fmt.Errorf("%w (%w)", ErrClusterNode, err)
	}
	if err != nil {
		return false, false, failure("paused", err)
	}
	return values[0] != nil, values[1] != nil, nil
}

// Order tells a run to do something. It hears of it within a second, if it is
// there; within a minute if Redis was away.
func (s *Store) Order(ctx context.Context, run string, o fleet.Order) error {
	text, err := json.Marshal(o)
	if err != nil {
		return failure("order", err)
	}
	key := s.keys.own("orders:" + run)
	_, err = s.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.RPush(ctx, key, text)
		p.PExpire(ctx, key, orderKeep)
		return nil
	})
	return failure("order", err)
}

// decodeOrders leaves out what is none.
func decodeOrders(list []string) []fleet.Order {
	var orders []fleet.Order
	for _, text := range list {
		var o fleet.Order
		if json.Unmarshal([]byte(text), &o) == nil {
			orders = append(orders, o)
		}
	}
	return orders
}
