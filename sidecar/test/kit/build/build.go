// Package build compiles the programs of this repository for tests that start them.
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

// Root returns the path of elem below the top of the repository, since go test runs in the
// package's folder.
func Root(elem ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(file), "..", "..", "..", ".."}, elem...)...)
}

// Programs builds programs into a folder of its own, each once per test process.
type Programs struct {
	// Flags are the flags of go build for all programs.
	Flags []string

	once sync.Once
	dir  string
	err  error
}

// Program returns a function that returns the path of a package's binary. The first call of
// that function builds the package, with the given flags in addition.
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

// Remove removes the binaries. TestMain calls it last.
func (p *Programs) Remove() {
	if dir, err := p.folder(); err == nil {
		_ = os.RemoveAll(dir) // leftovers in a temporary folder do no harm
	}
}

// FlagsFrom returns the flags of go build that an environment variable names.
func FlagsFrom(variable string) []string { return strings.Fields(os.Getenv(variable)) }
