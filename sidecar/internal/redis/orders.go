package redis

import (
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

//go:embed pause.lua
var pauseLua string
var pauseScript = script(pauseLua)

//go:embed order.lua
var orderLua string
var orderScript = script(orderLua)

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
		err = s.call(ctx, pauseScript, "", s.keys.own("paused"), run, text).Err()
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
func (s *Store) Order(ctx context.Context, run string, o fleet.Command) error {
	text, err := json.Marshal(o)
	if err != nil {
		return failure("order", err)
	}
	err = s.call(ctx, orderScript, "", s.keys.own("orders:"+run), text, orderKeep.Milliseconds()).Err()
	return failure("order", err)
}

// decodeOrders leaves out what is none.
func decodeOrders(list []string) []fleet.Command {
	var orders []fleet.Command
	for _, text := range list {
		var o fleet.Command
		if json.Unmarshal([]byte(text), &o) == nil {
			orders = append(orders, o)
		}
	}
	return orders
}
