package store

import (
	"context"
	_ "embed" // the script
)

//go:embed register.lua
var registerLua string
var registerScript = script(registerLua)

// Register makes a run a member and starts its lease. Nothing may be claimed
// for it before. The id must be new: see [NewRunID].
func (s *Store) Register(ctx context.Context, run string) error {
	return failure("register", s.call(ctx, registerScript, run, s.keys.alive(run)).Err())
}
