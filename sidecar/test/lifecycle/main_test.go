//go:build lifecycle

package lifecycle

import (
	"os"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

func TestMain(m *testing.M) {
	// The workers are this binary, started again by the sidecar.
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(serveTasks())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	defer programs.Remove()
	go machine.Run()
	return m.Run()
}

var (
	programs        = build.Programs{Flags: build.FlagsFrom("LIFECYCLE_BUILDFLAGS")}
	sidecarBinary   = programs.Program("sidecar")
	breakableBinary = programs.Program("sidecar/test/kit/breakablesidecar")
)
