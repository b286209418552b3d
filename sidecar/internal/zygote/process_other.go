//go:build !linux

package zygote

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// launch fails: only on Linux can a process become the parent of what another
// one has forked.
func launch(context.Context, *Config, subproc.Start) (forker, error) {
	return nil, &UnfitError{Reason: "fork servers need Linux"}
}
