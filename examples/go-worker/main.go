// Command go-worker is an example of a worker in Go, of several tasks: etl.clean,
// a step of a workflow whose other steps are in other languages, and some that
// count words, primes and points in a circle, which is what processors are for.
// The packages beside it do the work; this file is all that a worker needs around
// it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/graflow/graflow-sidecar/examples/go-worker/clean"
	"github.com/graflow/graflow-sidecar/examples/go-worker/tasks"
	"github.com/graflow/graflow-sidecar/protocol"
)

func init() {
	// A collection in several parts has several of these: etl.clean.1 and so on.
	protocol.Register("etl.clean*", clean.Task)
	protocol.Register("*", func(ctx protocol.Context, _ struct{}) (any, error) {
		return tasks.Handler(ctx, ctx.Task())
	})
}

func main() {
	concurrency := flag.Int("concurrency", 1, "how many `tasks` this process runs at once")
	flag.Parse()
	if err := protocol.Serve(context.Background(), nil, protocol.WithConcurrency(*concurrency)); err != nil {
		fmt.Fprintln(os.Stderr, "go-worker:", err)
		os.Exit(1)
	}
}
