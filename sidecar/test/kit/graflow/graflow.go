// Package graflow finds the Python environments that have Graflow.
package graflow

import (
	"cmp"
	"os"
	"os/exec"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// Python returns the path of an interpreter that has Graflow: the one that GRAFLOW_PYTHON
// names, or the one that `make venv` installs.
func Python(t testing.TB) string {
	t.Helper()
	return Checked(t, path())
}

// Find is Python for tests that can do without Graflow: it returns "" where there is none.
func Find() string {
	if _, err := exec.LookPath(path()); err != nil {
		return ""
	}
	return path()
}

func path() string {
	return cmp.Or(os.Getenv("GRAFLOW_PYTHON"), build.Root(".venv", "graflow-latest", "bin", "python"))
}

// Checked returns path if an interpreter is there, and ends the test otherwise.
func Checked(t testing.TB, path string) string {
	t.Helper()
	if _, err := exec.LookPath(path); err != nil {
		t.Fatalf("no Python with Graflow at %s: run `make venv`, or set GRAFLOW_PYTHON", path)
	}
	return path
}
