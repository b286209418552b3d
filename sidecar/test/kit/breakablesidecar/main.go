// Command breakablesidecar is a sidecar that a test can break from outside, since a bug
// cannot be ordered.
package main

import (
	"os"

	"github.com/graflow/graflow-sidecar/sidecar/internal/cli"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
)

func main() {
	testhook.Hooks = hooksOf()
	os.Exit(cli.Main(os.Args, os.Environ()))
}
