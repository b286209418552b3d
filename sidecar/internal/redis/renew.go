package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed renew.lua
var renewLua string
var renewScript = script(renewLua)

// Renew lengthens a run's lease, making it anew where it ran out. It returns
// [ErrGone] for a run that is no member.
func (s *Store) Renew(ctx context.Context, run string) error { return s.RenewAs(ctx, run, nil, "") }

// RenewAs is Renew by a run that says something of itself. about is a fleet.Run as JSON,
// for whoever looks at the fleet: it is gone with the lease. label, host:run, is entered in Graflow's
// set of workers; whoever ends the run takes it out. Empty ones are left alone.
func (s *Store) RenewAs(ctx context.Context, run string, about []byte, label string) error {
	return failure("renew", s.call(ctx, renewScript, run, s.keys.alive(run), about, label).Err())
}
