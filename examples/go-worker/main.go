// Command go-worker is an example of a worker in Go: it counts words, primes and
// points in a circle, which is what processors are for. Package tasks beside it
// does the work; this file is all that a worker needs around it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/graflow/graflow-sidecar/examples/go-worker/tasks"
	"github.com/graflow/graflow-sidecar/protocol"
)

func main() {
	concurrency := flag.Int("concurrency", 1, "how many `tasks` this process runs at once")
	flag.Parse()
	if err := protocol.Serve(context.Background(), tasks.Handler, protocol.WithConcurrency(*concurrency)); err != nil {
		fmt.Fprintln(os.Stderr, "go-worker:", err)
		os.Exit(1)
	}
}
