package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
)

// explained runs sidecar explain, and returns what it printed and what it wrote about
// its error.
func explained(t *testing.T, in string, args ...string) (out, errOut string, status int) {
	t.Helper()
	root := &cobra.Command{Use: "sidecar", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(explainCommand())
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetIn(strings.NewReader(in))
	root.SetArgs(append([]string{"explain"}, args...))
	err := root.Execute()
	if err != nil {
		explain(&stderr, err, "sidecar run")
	}
	return stdout.String(), stderr.String(), exitStatus(err)
}

func TestExplain(t *testing.T) {
	const (
		outage, exit, eviction = "Redis outage\n\n  redis-lost ", "Worker exit\n\n  worker-ended ", "Redis eviction policy\n\n  redis-eviction "
		jsonLine               = `{"time":"2026-01-02T03:04:05Z","level":"WARN","msg":"worker ended","slot":1,"id":"worker-ended","explain":"sidecar explain worker-ended"}`
		textLine               = `03:04:05 WRN redis is lost, waiting for it class=dns id=redis-lost explain="sidecar explain redis-lost"`
	)
	for _, c := range []struct {
		name string
		in   string
		args []string
		want []string // the beginnings of the sections
	}{
		{"an id", "", []string{"redis-lost"}, []string{outage}},
		{"another id of the section", "", []string{"redis-still-lost"}, []string{outage}},
		{"two ids", "", []string{"worker-ended", "redis-lost"}, []string{exit, outage}},
		{"two ids of one section", "", []string{"redis-lost", "redis-still-lost"}, []string{outage}},
		{"an alert", "", []string{"GraflowPaused"}, []string{"GraflowPaused\n\nThis sidecar, "}},
		{"a check", "", []string{"doctor-clock"}, []string{"Clock difference\n\n  doctor-clock  check clock\n\n"}},
		{"an id without a section", "", []string{"sidecar-ready"}, []string{"sidecar-ready\n\n  sidecar is ready\n\nThe line reports normal operation."}},
		{"a message", "", []string{"redis is lost, waiting for it"}, []string{outage}},
		{"a line of a JSON log", "", []string{jsonLine}, []string{exit}},
		{"a line of a text log that the shell has split", "", strings.Fields(strings.ReplaceAll(textLine, `"`, "")), []string{outage}},
		{"an error of a command", "", []string{"sidecar: redis at h cannot be reached; run 'sidecar explain redis-unreachable'"}, []string{"Redis that a command cannot reach\n\n  redis-unreachable "}},
		{"lines on stdin", "no id\n" + jsonLine + "\n" + textLine + "\n" + jsonLine + "\n", []string{"-"}, []string{exit, outage}},
		{"normal operation beside a warning", `{"id":"sidecar-ready"}` + "\n" + jsonLine + "\n" + `{"id":"sidecar-stopped"}`, []string{"-"}, []string{exit}},
		{"normal operation alone", `{"id":"sidecar-ready"}` + "\n" + `{"id":"sidecar-stopped"}`, []string{"-"}, []string{"sidecar-ready\n", "sidecar-stopped\n"}},
		{"a line without an end on stdin", `{"id":"redis-eviction"}`, []string{"-"}, []string{eviction}},
		{"an id of another attribute", "worker_id=worker-ended id=redis-lost id=of-a-worker\n", []string{"-"}, []string{outage}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errOut, status := explained(t, c.in, c.args...)
			if status != 0 || errOut != "" {
				t.Fatalf("status %d: %s", status, errOut)
			}
			at := 0
			for i, begin := range c.want {
				next := strings.Index(out[at:], begin)
				if next < 0 || i == 0 && next > 0 {
					t.Fatalf("%q does not come next in:\n%s", begin, out)
				}
				at += next + len(begin)
			}
			if n := strings.Count(out, "\nDo: ") + strings.Count(out, "nothing to do."); n != len(c.want) {
				t.Errorf("%d sections, want %d:\n%s", n, len(c.want), out)
			}
			if strings.ContainsAny(out, "\x1b\r") {
				t.Errorf("control characters in a pipe: %q", out)
			}
		})
	}
}

// Without an argument each id of a section has one line.
func TestExplainLists(t *testing.T) {
	out, _, status := explained(t, "")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	n := 1
	for _, s := range logdocs.Sections() {
		for _, e := range s.Entries {
			if n < len(lines) && (!strings.HasPrefix(lines[n], e.ID+" ") || !strings.HasSuffix(lines[n], " "+e.Meaning)) {
				t.Errorf("line %d is %q, want %s", n, lines[n], e.ID)
			}
			n++
		}
	}
	if status != 0 || n != len(lines) || n < 80 {
		t.Errorf("status %d, %d lines for %d ids", status, len(lines), n)
	}
}

func TestExplainRefuses(t *testing.T) {
	for _, c := range []struct {
		name, in string
		args     []string
		status   int
		want     string
	}{
		{"an unknown id", "", []string{"redis-lots"}, exitUsage, "sidecar: no id redis-lots; the nearest are redis-lost, redis-"},
		{"an unknown id beside a known one", "", []string{"redis-lost", "worker-redy"}, exitUsage, "sidecar: no id worker-redy; the nearest are worker-ready, "},
		{"a line without an id", "", []string{`{"msg":"worker stderr"}`}, exitUsage, "sidecar: no id {"},
		{"control characters", "", []string{"\x1b[31m"}, exitUsage, `sidecar: no id \x1b[31m; the nearest are `},
		{"a long text", "", []string{strings.Repeat("x", 1000)}, exitUsage, "sidecar: no id " + strings.Repeat("x", textWidth-1) + "…; the nearest"},
		{"no line with an id", "a\nb\n", []string{"-"}, exitNegative, "sidecar: no line of stdin has an id\n"},
		{"empty stdin", "", []string{"-"}, exitNegative, "sidecar: no line of stdin has an id\n"},
		{"an endless line", strings.Repeat("x", mostLine+1), []string{"-"}, exitNegative, "sidecar: stdin cannot be read: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errOut, status := explained(t, c.in, c.args...)
			if status != c.status || !strings.HasPrefix(errOut, c.want) || strings.Count(errOut, "\n") != 1 || out != "" {
				t.Errorf("status %d, %q, %q; want %d and %q", status, errOut, out, c.status, c.want)
			}
		})
	}
}

// The shell completes ids, with their meanings, and no files.
func TestExplainCompletes(t *testing.T) {
	list, directive := explainCommand().ValidArgsFunction(nil, nil, "")
	if directive != cobra.ShellCompDirectiveNoFileComp || len(list) < 80 {
		t.Errorf("%d completions, directive %d", len(list), directive)
	}
	if text := strings.Join(list, "\n"); !strings.Contains(text, "\nredis-lost\tredis is lost, waiting for it\n") {
		t.Errorf("no completion for redis-lost in:\n%s", text)
	}
}
