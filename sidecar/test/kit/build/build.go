// Package build makes the programs of this repository for tests that start them.
package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Root returns a path below the top of the repository: go test runs in the package's
// folder.
func Root(elem ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(file), "..", "..", "..", ".."}, elem...)...)
}

// Programs are built into a folder of their own, each once per test process.
type Programs struct {
	// Flags are those of go build, for all of them.
	Flags []string

	once sync.Once
	dir  string
	err  error
}

// Program returns what builds a package, with more flags, the first time that it is
// called, and returns the path of the binary.
func (p *Programs) Program(pkg string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := p.folder()
		if err != nil {
			return "", err
		}
		out, err := os.MkdirTemp(dir, "")
		if err != nil {
			return "", err
		}
		out = filepath.Join(out, filepath.Base(pkg))
		args := append(append([]string{"build"}, p.Flags...), flags...)
		cmd := exec.Command("go", append(args, "-o", out, "./"+pkg)...)
		cmd.Dir = Root()
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build ./%s: %w\n%s", pkg, err, text)
		}
		return out, nil
	})
}

func (p *Programs) folder() (string, error) {
	p.once.Do(func() { p.dir, p.err = os.MkdirTemp("", "graflow-sidecar-build-") })
	return p.dir, p.err
}

// Remove removes what was built. TestMain calls it last.
func (p *Programs) Remove() {
	if dir, err := p.folder(); err == nil {
		_ = os.RemoveAll(dir) // nothing hangs on what is left of a temporary folder
	}
}

// FlagsFrom returns the flags of go build that an environment variable has.
func FlagsFrom(variable string) []string { return strings.Fields(os.Getenv(variable)) }
