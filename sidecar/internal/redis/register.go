package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed register.lua
var registerLua string
var registerScript = script(formatLua, registerLua)

// Register makes a run a member and starts its lease. Nothing may be claimed for the run
// before. The id must be new: see [NewRunID]. before are former runs of the caller. If
// Redis has forgotten them or still has them as members, the next [Store.Tick] requeues
// their records at no cost. Register returns a [*FormatError] if other sidecars write a
// format that this version does not know, and a [*QueueError] while sidecars of the prefix
// serve another queue.
func (s *Store) Register(ctx context.Context, run string, before ...string) error {
	args := make([]any, 1, 1+len(before))
	args[0] = s.format
	for _, b := range before {
		args = append(args, b)
	}
	return failure("register", s.call(ctx, registerScript, run, s.keys.alive(run), args...).Err())
}
