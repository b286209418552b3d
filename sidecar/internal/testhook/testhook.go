// Package testhook has what binaries for tests and benchmarks put in the place of parts
// of a sidecar. Only their main packages set it: in the released binary there is none.
package testhook

import (
	"context"
	"net"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
)

// Hooks are those of every sidecar that starts later. It is set before the first one.
var Hooks Set

// Set has the hooks; each may be nil.
type Set struct {
	// Redis changes what the stages say to Redis.
	Redis func(r *Redis)
	// Sink wraps the sink of the workers' outcomes.
	Sink func(rpc.Sink) rpc.Sink
	// Pool makes the pool of workers in place of that of the mode.
	Pool func(o stage.Options) worker.Pool
	// Start starts worker processes in place of the operating system.
	Start local.Start
	// SpoolFiles is the file system of the spool in place of that of the operating system.
	SpoolFiles spool.FileSystem
	// Dial opens the connections to Redis in place of a [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Redis is what the stages of a sidecar say to Redis.
type Redis struct {
	Source   claim.Source
	Outcomes report.Store
	Leases   lease.Store
	Ping     func(ctx context.Context) error
	// Close closes the connections that are not closed yet.
	Close func() error
}
