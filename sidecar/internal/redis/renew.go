package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed renew.lua
var renewLua string
var renewScript = script(renewLua)

// Renew renews the lease of a run, also after it has expired. It returns [ErrGone] for a
// run that is not a member.
func (s *Store) Renew(ctx context.Context, run string) error { return s.RenewAs(ctx, run, nil, "") }

// RenewAs renews the lease and publishes a description of the run. about is a fleet.Run
// as JSON; it expires with the lease. label, host:run, is added to Graflow's set of
// workers, and removed when the run ends. Empty values are not stored.
func (s *Store) RenewAs(ctx context.Context, run string, about []byte, label string) error {
	return failure("renew", s.call(ctx, renewScript, run, s.keys.alive(run), about, label).Err())
}
