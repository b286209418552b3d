package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed register.lua
var registerLua string
var registerScript = script(registerLua)

// Register makes a run a member and starts its lease. Nothing may be claimed
// for it before. The id must be new: see [NewRunID]. before are runs that the caller had
// until then and has let go of: where Redis has forgotten them, or still has them as
// members, what lies under their names is returned to the queue at no cost by the next
// [Store.Tick].
func (s *Store) Register(ctx context.Context, run string, before ...string) error {
	args := make([]any, len(before))
	for i, b := range before {
		args[i] = b
	}
	return failure("register", s.call(ctx, registerScript, run, s.keys.alive(run), args...).Err())
}
