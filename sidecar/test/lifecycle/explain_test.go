//go:build lifecycle

package lifecycle

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// explain runs sidecar explain without a Redis, and returns what it prints.
func explain(t *testing.T, in string, args ...string) string {
	t.Helper()
	binary, err := sidecarBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"explain"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = t.TempDir(), proc.Env(), strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sidecar explain %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// A line of the log, and the error that ends a command, name a command that works on
// any machine with the binary.
func TestTheLogAndErrorsAreExplained(t *testing.T) {
	t.Parallel()
	b, server := ownBench(t)
	s := b.sidecar()
	s.ready()
	server.Kill()
	wait.Until(t, "the loss of Redis", func() bool { return s.says(`"id":"redis-lost"`) })
	s.terminate(10 * time.Second)
	line := ""
	for l := range strings.Lines(s.log.String()) {
		if strings.Contains(l, `"id":"redis-lost"`) {
			line = l
		}
	}
	for _, want := range []string{`"msg":"redis is lost, waiting for it"`, `"explain":"sidecar explain redis-lost"`} {
		if !strings.Contains(line, want) {
			t.Errorf("the line has no %s: %s", want, line)
		}
	}
	for name, text := range map[string]string{
		"the id":   explain(t, "", "redis-lost"),
		"the line": explain(t, "", line),
		"the log":  explain(t, s.log.String(), "-"),
	} {
		if !strings.HasPrefix(text, "Redis outage\n") || !strings.Contains(text, "\nDo: ") {
			t.Errorf("%s: printed %q", name, text)
		}
	}

	wrong := b.sidecar("SIDECAR_MODE=dance")
	<-wrong.done
	if status := wrong.cmd.ProcessState.ExitCode(); status != 78 {
		t.Errorf("status %d", status)
	}
	if !wrong.says("run 'sidecar explain config-error'") {
		t.Error("the error of a wrong setting does not name the command")
	}
	if text := explain(t, wrong.log.String(), "-"); !strings.HasPrefix(text, "Settings\n") {
		t.Errorf("the error of a wrong setting: printed %q", text)
	}
}
