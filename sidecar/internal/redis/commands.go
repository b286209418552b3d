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
var pauseScript = script(formatLua, pauseLua)

//go:embed command.lua
var commandLua string
var commandScript = script(formatLua, commandLua)

// commandTTL is the time for which a command waits for its run, which reads commands once
// a second. A user has given up a command that is older.
const commandTTL = time.Minute

// pause is the stored form of a pause.
type pause struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

// Pause stops the claims of a run, or with [fleet.AllRuns] of all runs of the prefix,
// until Unpause. Running tasks continue. A run reads it within a second; a run that
// starts while all are paused claims nothing.
func (s *Store) Pause(ctx context.Context, run, by string) error {
	text, err := json.Marshal(pause{At: time.Now().UTC(), By: by})
	if err == nil {
		err = s.call(ctx, pauseScript, "", s.keys.own("paused"), run, text, s.format).Err()
	}
	return failure("pause", err)
}

// Unpause ends the pause of a run, or with [fleet.AllRuns] that of all runs. Neither ends
// the other.
func (s *Store) Unpause(ctx context.Context, run string) error {
	return failure("unpause", s.call(ctx, pauseScript, "", s.keys.own("paused"), run, "", s.format).Err())
}

// Paused reports whether a run is paused and whether all runs are.
func (s *Store) Paused(ctx context.Context, run string) (own, all bool, err error) {
	values, err := s.c.HMGet(ctx, s.keys.own("paused"), run, fleet.AllRuns).Result()
	if s.lost(err) {
		err = fmt.Errorf("%w (%w)", ErrClusterNode, err)
	}
	if err != nil {
		return false, false, failure("paused", err)
	}
	return values[0] != nil, values[1] != nil, nil
}

// SendCommand sends a command to a run. The run reads it within a second, or within a
// minute after an outage of Redis.
func (s *Store) SendCommand(ctx context.Context, run string, c fleet.Command) error {
	text, err := json.Marshal(c)
	if err != nil {
		return failure("order", err)
	}
	err = s.call(ctx, commandScript, "", s.keys.own("orders:"+run), text, commandTTL.Milliseconds(), s.format).Err()
	return failure("order", err)
}

// decodeCommands decodes commands and skips entries that do not parse.
func decodeCommands(list []string) []fleet.Command {
	var commands []fleet.Command
	for _, text := range list {
		var o fleet.Command
		if json.Unmarshal([]byte(text), &o) == nil {
			commands = append(commands, o)
		}
	}
	return commands
}
