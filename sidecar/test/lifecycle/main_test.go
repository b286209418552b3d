//go:build lifecycle

package lifecycle

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

// scratch holds the built binary and is removed when the tests are over.
var scratch string

func TestMain(m *testing.M) {
	// The workers are this binary, started again by the sidecar.
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(serveTasks())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "graflow-sidecar-lifecycle-"); err != nil {
		fmt.Fprintln(os.Stderr, "lifecycle:", err)
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

// build makes the sidecar once per test process.
func build(name, pkg string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		out := filepath.Join(scratch, name)
		args := append([]string{"build"}, strings.Fields(os.Getenv("LIFECYCLE_BUILDFLAGS"))...)
		cmd := exec.Command("go", append(args, "-o", out, pkg)...)
		cmd.Dir = repo()
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
		}
		return out, nil
	})
}

var (
	sidecarBinary   = build("sidecar", "./sidecar")
	breakableBinary = build("breakable", "./sidecar/test/kit/breakablesidecar")
)

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
