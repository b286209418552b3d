package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// execute runs a command line up to its error, and returns what is said of it.
func execute(t *testing.T, args ...string) string {
	t.Helper()
	root := newRoot()
	root.SetOut(io.Discard)
	root.SetArgs(args)
	err := run(root, args)
	if err == nil {
		t.Fatalf("sidecar %s: no error", strings.Join(args, " "))
	}
	var said bytes.Buffer
	explain(&said, err.error, err.path)
	if status := exitStatus(err.error); status != exitUsage {
		t.Errorf("sidecar %s: status %d, want %d: %s", strings.Join(args, " "), status, exitUsage, said.String())
	}
	return said.String()
}

// TestEveryCommandPointsToItsHelp: an unknown flag of each command, hidden ones too, is
// answered with the help of that command.
func TestEveryCommandPointsToItsHelp(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		path := c.CommandPath()
		args := append(strings.Fields(path)[1:], "--no-such-flag")
		if said := execute(t, args...); !strings.Contains(said, "'"+path+" --help'") || !strings.Contains(said, "--no-such-flag") {
			t.Errorf("%s: %s", path, said)
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}

func TestProposals(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"requeue x", "unknown command: requeue; did you mean 'sidecar dead requeue'?"},
		{"requeue --all", "did you mean 'sidecar dead requeue'?"},
		{"test -- w", "did you mean 'sidecar worker test'?"},
		{"stauts", "did you mean 'sidecar status'?"},
		{"jump", "unknown command: jump\n"},
		{"dead requeu x", "did you mean 'sidecar dead requeue'?"},
		{"\x1b[31m", `unknown command: \x1b[31m`},
		{"run --concurrency 8 -- w", "did you mean --max-concurrent-tasks?"},
		{"run --redis-hots h -- w", "did you mean --redis-host?"},
		{"run --spool-dir d -- w", "the variable SIDECAR_SPOOL_DIR is that setting"},
		{"run --fast -- w", "a flag of the worker's comes after --"},
		{"status --redis h", "did you mean --redis-url?"},
		{"dead requeue --al", "did you mean --all?"},
		{"pause", "'sidecar pause --help' says more"},
		{"pause a b", "'sidecar pause --help' says more"},
		{"dead", "'sidecar dead --help' says more"},
		{"children restart", "'sidecar children restart --help' says more"},
		{"version x", "sidecar version takes no arguments, and was given x"},
		{"version x", "'sidecar version --help' says more"},
	} {
		if said := execute(t, strings.Fields(c.args)...); !strings.Contains(said, c.want) {
			t.Errorf("sidecar %s: %s; want %q", c.args, said, c.want)
		}
	}
}

func TestVersionFlags(t *testing.T) {
	for _, arg := range []string{"--version", "-v"} {
		var out bytes.Buffer
		root := newRoot()
		root.SetOut(&out)
		if err := run(root, []string{arg}); err != nil {
			t.Errorf("%s: %v", arg, err.error)
		}
		if !strings.HasPrefix(out.String(), "graflow-sidecar ") {
			t.Errorf("%s: %q", arg, out.String())
		}
	}
}
