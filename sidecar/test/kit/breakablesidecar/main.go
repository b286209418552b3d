// Command breakablesidecar is a sidecar in which a test can cause a panic or a hang from
// outside, to test how the sidecar reacts to a bug.
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
