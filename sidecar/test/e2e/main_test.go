//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// scratch holds the built binaries and is removed when the tests are over.
var scratch string

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
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "graflow-sidecar-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// repo is the top of the repository: go test runs in the package's folder.
func repo(elem ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(file), "..", "..", ".."}, elem...)...)
}

// build compiles a package of the repository once per test process.
func build(pkg string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		out := filepath.Join(scratch, filepath.Base(pkg))
		args := append([]string{"build"}, strings.Fields(os.Getenv("E2E_BUILDFLAGS"))...)
		cmd := exec.Command("go", append(args, "-o", out, "./"+pkg)...)
		cmd.Dir = repo()
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build ./%s: %w\n%s", pkg, err, text)
		}
		return out, nil
	})
}

var (
	sidecarBinary  = build("sidecar")
	goWorkerBinary = build("examples/go-worker")
)

// python is the interpreter that the sidecar is given.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("GRAFLOW_PYTHON")
	if path == "" {
		path = repo(".venv", "graflow-latest", "bin", "python")
	}
	return checked(t, path)
}

// producerPython runs producers and Graflow's own worker. Graflow 0.1.9 can do
// neither with redis-py 8, while the sidecar's adapter can.
func producerPython(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("GRAFLOW_PRODUCER_PYTHON"); path != "" {
		return checked(t, path)
	}
	return python(t)
}

func checked(t *testing.T, path string) string {
	t.Helper()
	if _, err := exec.LookPath(path); err != nil {
		t.Fatalf("no Python with Graflow at %s: run `make venv`, or set GRAFLOW_PYTHON", path)
	}
	return path
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

// spawned starts processes from one thread that lives as long as the tests:
// the parent-death signal, which ends them even where a test run is killed,
// fires when the thread that started them exits.
var spawned = make(chan func())

func init() {
	go func() {
		runtime.LockOSThread()
		for start := range spawned {
			start()
		}
	}()
}

func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	errs := make(chan error, 1)
	spawned <- func() { errs <- cmd.Start() }
	return <-errs
}
