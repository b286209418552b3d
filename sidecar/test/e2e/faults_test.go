//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
)

func TestUnknownGraphAndTask(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it drops such records, and the producer waits for nothing")
	b := newBench(t)
	b.graflow()
	var got struct {
		Told     map[string][]any
		Expected map[string]any
		Counter  string
	}
	b.report(&got, "unknown.py")
	equal(t, "told to the group", got.Told, map[string][]any{
		"lost":    {false, got.Expected["lost"]},
		"missing": {false, got.Expected["missing"]},
		"known":   {true, nil},
	})
	equal(t, "the barrier's counter", got.Counter, "3")
	for name, words := range map[string]string{"lost": "Graph snapshot not found", "missing": "Task missing not found in graph"} {
		if text, _ := got.Expected[name].(string); !strings.Contains(text, words) {
			t.Errorf("Graflow's own words for %q changed: %q", name, text)
		}
	}
}

func TestExitInTaskIsFailure(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "sys.exit ends its thread's task with no completion")
	b := newBench(t)
	b.graflow()
	var got struct {
		Failed map[string]string
		Stays  any
	}
	b.report(&got, "exits.py")
	equal(t, "the task beside them", got.Stays, "still here")
	for name, word := range map[string]string{
		"with_status": "3", "with_text": "goodbye", "bare": "exit", "interrupted": "KeyboardInterrupt",
	} {
		if !strings.Contains(got.Failed[name], word) {
			t.Errorf("%s: the producer saw %q, want it to name %q", name, got.Failed[name], word)
		}
	}
	equal(t, "failed tasks", len(got.Failed), 4)
}

// Prints, tracebacks and 200 kB of noise on stdout and stderr break no task,
// and every line of them is in the log with the task it came from.
func TestStreamsOfTasks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.graflow()
	var got struct{ Results map[string]any }
	b.report(&got, "streams.py")
	equal(t, "results", got.Results, map[string]any{
		"reads_stdin":      []any{"", "", ""},
		"prints":           "printed",
		"complains":        "complained",
		"replaces_streams": "captured\n",
		"starts_a_child":   "",
		"uses_processes":   []any{3.0, 3.0},
	})
	if ownWorker() {
		return
	}
	w.stop() // everything is in the log then
	tasks := map[string]string{}
	for _, line := range w.lines() {
		for _, word := range []string{
			"a print from the task", "from a shell", "to its stderr", "a traceback on purpose",
			"a logged error on purpose", "not UTF-8", "xxxxxxxx", "eeeeeeee",
		} {
			if strings.Contains(line.text, word) {
				tasks[word] = line.TaskID
			}
		}
	}
	equal(t, "the task of each line", tasks, map[string]string{
		"a print from the task": "prints", "from a shell": "prints", "to its stderr": "prints", "xxxxxxxx": "prints",
		"a traceback on purpose": "complains", "a logged error on purpose": "complains",
		"not UTF-8": "complains", "eeeeeeee": "complains",
	})
}

// A worker that cannot do its work is said once, with its command and what was
// seen, and nothing is lost of what is on the queue.
func TestWorkerThatNeverStarts(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has no workers of its own")
	for name, c := range map[string]struct {
		command []string
		env     []string
		seen    []string
	}{
		"not there": {
			command: []string{"/nonexistent/worker", "--flag"},
			seen:    []string{"/nonexistent/worker --flag", "does not exist"},
		},
		"not executable": {command: []string{"/etc/passwd"}, seen: []string{"/etc/passwd", "permission denied"}},
		"exits at once": {
			command: []string{"sh", "-c", "echo last words >&2; exit 3"},
			seen:    []string{"sh -c", "status 3", "last words"},
		},
		"killed": {command: []string{"sh", "-c", "kill -9 $$"}, seen: []string{"sh -c", "killed"}},
		"prints and exits": {
			command: []string{"sh", "-c", "read line; echo Welcome to the worker"},
			seen:    []string{"sh -c", "Welcome to the worker"},
		},
		"prints and stays": {
			command: []string{"sh", "-c", "read line; echo Welcome to the worker; cat"},
			env:     []string{"SIDECAR_START_TIMEOUT=500ms"},
			seen:    []string{"sh -c", "Welcome to the worker", "500ms"},
		},
		"echoes": {command: []string{"cat"}, seen: []string{"cat"}},
		"no python": {
			command: []string{"--graflow"}, env: []string{"SIDECAR_PYTHON=/nonexistent/python3"},
			seen: []string{"/nonexistent/python3", "does not exist"},
		},
		"python without graflow": {
			command: []string{"--graflow"}, env: []string{"SIDECAR_PYTHON=" + pythonWithoutGraflow(t)},
			seen: []string{"bare-python", "Graflow is not installed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var records []string
			for _, id := range []string{"a", "b", "c"} {
				records = append(records, b.push(id, "s", nil))
			}
			args := c.command
			if args[0] != "--graflow" {
				args = append([]string{"--"}, args...)
			}
			w := b.sidecar(setup{args: args, env: c.env})
			equal(t, "exit status", w.wait(), 70)
			equal(t, "the queue", b.queue(), records)
			w.assertGone()
			var errors []string
			for _, line := range w.lines() {
				if line.Level == "ERROR" || line.Level == atExit {
					errors = append(errors, line.text)
				}
			}
			if len(errors) != 1 {
				t.Fatalf("%d error lines, want one:\n%s", len(errors), strings.Join(errors, "\n"))
			}
			if len(errors[0]) > 400 {
				t.Errorf("the line is too long to read: %s", errors[0])
			}
			for _, word := range c.seen {
				if !strings.Contains(strings.ToLower(errors[0]), strings.ToLower(word)) {
					t.Errorf("the error does not say %q: %s", word, errors[0])
				}
			}
		})
	}
}

// A worker that starts and keeps dying is said once, in one line, with what was
// seen last, and nothing is lost.
func TestCrashLoopThatEndsTheSidecar(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has no workers of its own")
	b := newBench(t)
	var records []string
	for _, id := range []string{"a", "b", "c"} {
		records = append(records, b.push(id, "s", nil))
	}
	const dies = `read line
echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"worker":{"name":"sh","version":"1"},"concurrency":1,"capabilities":{}}}'
echo last words >&2; exit 3`
	w := b.sidecar(setup{args: []string{"--", "sh", "-c", dies}, env: []string{
		"MAX_CONCURRENT_TASKS=1", "SIDECAR_CRASH_LOOP_EXIT=true", "SIDECAR_MAX_ATTEMPTS=100", "SIDECAR_RESTART_BACKOFF_MAX=200ms",
	}})
	equal(t, "exit status", w.wait(), 70)
	// In any order: what a worker died with goes back at once, and so may end up behind
	// what was claimed meanwhile and did not start.
	equal(t, "the queue", slices.Sorted(slices.Values(b.queue())), slices.Sorted(slices.Values(records)))
	w.assertGone()
	var errors []string
	for _, line := range w.lines() {
		if line.Level == "ERROR" || line.Level == atExit {
			errors = append(errors, line.text)
		}
	}
	if len(errors) != 1 || !strings.Contains(errors[0], "keeps dying: it ended 5 times in a row") ||
		!strings.Contains(errors[0], "the last time it exited with status 3; its last line on stderr: last words") {
		t.Errorf("want one line that says it all:\n%s", strings.Join(errors, "\n"))
	}
}

// pythonWithoutGraflow is a Python that sees no installed packages.
func pythonWithoutGraflow(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bare-python")
	script := "#!/bin/sh\nexec '" + graflow.Python(t) + "' -S \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has settings of its own")
	for name, c := range map[string]struct {
		env    []string
		args   []string
		status int
		says   []string
	}{
		"no number":        {env: []string{"MAX_CONCURRENT_TASKS=many"}, status: 78, says: []string{"MAX_CONCURRENT_TASKS", "many"}},
		"no tasks at all":  {env: []string{"MAX_CONCURRENT_TASKS=0"}, status: 78, says: []string{"MAX_CONCURRENT_TASKS", "0"}},
		"no port":          {env: []string{"REDIS_PORT=70000"}, status: 78, says: []string{"REDIS_PORT", "70000"}},
		"no log level":     {env: []string{"LOG_LEVEL=LOUD"}, status: 78, says: []string{"LOG_LEVEL", "LOUD"}},
		"misspelt setting": {env: []string{"SIDECAR_PYTHONN=python3"}, status: 78, says: []string{"SIDECAR_PYTHONN", "SIDECAR_PYTHON"}},
		"no URL":           {env: []string{"REDIS_URL=http://localhost"}, status: 78, says: []string{"REDIS_URL"}},
		"no command":       {args: []string{}, status: 64, says: []string{"--graflow"}},
		"unknown flag":     {args: []string{"--grafflow"}, status: 64, says: []string{"--grafflow"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			args := c.args
			if args == nil {
				args = []string{"--graflow"}
			}
			w := b.sidecar(setup{args: args, env: c.env})
			equal(t, "exit status", w.wait(), c.status)
			w.assertGone()
			text := strings.TrimSpace(w.log.String())
			if c.status == 78 && strings.Contains(text, "\n") { // usage errors point to --help
				t.Errorf("more than one line:\n%s", text)
			}
			for _, word := range c.says {
				if !strings.Contains(text, word) {
					t.Errorf("%q does not say %s", text, word)
				}
			}
		})
	}
}
