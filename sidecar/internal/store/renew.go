package store

import (
	"context"
	_ "embed" // the script
)

//go:embed renew.lua
var renewLua string
var renewScript = script(renewLua)

// Renew lengthens a run's lease, making it anew where it ran out. It returns
// [ErrGone] for a run that is no member.
func (s *Store) Renew(ctx context.Context, run string) error {
	return failure("renew", s.call(ctx, renewScript, run, s.keys.alive(run)).Err())
}
