// Command sidecar stands between Redis and the code that does the work: it
// claims task records, runs them in worker processes over stdin and stdout,
// reports what became of them, and stops in the right order.
package main

import (
	"os"

	"github.com/graflow/graflow-sidecar/sidecar/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Environ())) }
