//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// example is a block of code of docs/records.md.
type example struct{ language, text string }

// examples returns the blocks of code of a document, in their order.
func examples(t *testing.T, name string) (all []example) {
	t.Helper()
	text, err := os.ReadFile(build.Root("docs", name))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split("\n"+string(text), "\n```")
	for i := 1; i < len(parts); i += 2 {
		language, code, _ := strings.Cut(parts[i], "\n")
		all = append(all, example{language, code})
	}
	return all
}

// output runs a program and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = proc.Env()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// The examples of docs/records.md do what they say: with the sidecar of its first block,
// each command prints what its comment has.
func TestRecordsDocument(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "the document is about the sidecar")
	instance := redistest.Start(t)
	port := strconv.Itoa(instance.Port)
	b := &bench{t: t, server: instance.Server, redis: instance.Client(), prefix: "graflow"}
	python, checked := "", 0
	for i, e := range examples(t, "records.md") {
		switch {
		case i == 0:
			const command = "sidecar run --mode exec -- jq -c '"
			if !strings.HasPrefix(e.text, command) {
				t.Fatalf("the first block is %q", e.text)
			}
			b.exec([]string{"jq", "-c", strings.TrimSuffix(strings.TrimPrefix(e.text, command), "'")})
		case e.language == "sh":
			for line := range strings.SplitSeq(e.text, "\n") {
				command, want, compared := strings.Cut(line, "  # ")
				command = strings.Replace(command, "redis-cli ", "redis-cli -p "+port+" ", 1)
				var got string
				var err error
				wait.Until(t, line, func() bool {
					if got, err = output(t.Context(), "sh", "-c", command); err != nil {
						t.Fatalf("%s: %v: %s", line, err, got)
					}
					return !compared || got == want
				})
				if compared {
					checked++
				}
			}
		case e.language == "python":
			code, comment, compared := strings.Cut(e.text, "  # ")
			got, err := output(t.Context(), producerPython(t), "-c", strings.ReplaceAll(python+code, "redis.Redis()", "redis.Redis(port="+port+")"))
			if err != nil {
				t.Fatalf("%v: %s", err, got)
			}
			if compared {
				checked++
				if want := strings.ReplaceAll(comment, " / ", "\n"); got != want {
					t.Errorf("the example in Python prints %q, want %q", got, want)
				}
			} else {
				python += "import json, redis\nr = redis.Redis()\n" // what later blocks use of this one
			}
		}
	}
	if checked < 5 {
		t.Errorf("%d comments were compared", checked)
	}
}
