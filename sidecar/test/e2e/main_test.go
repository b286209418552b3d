//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
)

func TestMain(m *testing.M) {
	// The tests' Go workers are this binary, started again by the sidecar.
	if len(os.Args) > 1 {
		if role, ok := strings.CutPrefix(os.Args[1], "worker="); ok {
			os.Exit(serveRole(role))
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	defer built.Remove()
	return m.Run()
}

var (
	built          = build.Programs{Flags: build.FlagsFrom("E2E_BUILDFLAGS")}
	sidecarBinary  = built.Program("sidecar")
	goWorkerBinary = built.Program("examples/go-worker")
)

// producerPython runs producers and Graflow's own worker. Graflow 0.1.9 can do
// neither with redis-py 8, while the sidecar's adapter can.
func producerPython(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("GRAFLOW_PRODUCER_PYTHON"); path != "" {
		return graflow.Checked(t, path)
	}
	return graflow.Python(t)
}

// ownWorker says that Graflow's own worker stands in for the sidecar.
func ownWorker() bool { return os.Getenv("E2E_WORKER") == "graflow" }

// sidecarOnly leaves a test out when Graflow's own worker stands in, since it
// cannot do what is tested.
func sidecarOnly(t *testing.T, why string) {
	t.Helper()
	if ownWorker() {
		t.Skip("Graflow's own worker: " + why)
	}
}
