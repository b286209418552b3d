//go:build !linux

package forkserver

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// launch fails: only on Linux can a process become the parent of another process's
// fork.
func launch(context.Context, *Config, local.Start) (forker, error) {
	return nil, &UnsupportedError{Reason: "fork servers need Linux"}
}
