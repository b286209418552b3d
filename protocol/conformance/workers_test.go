package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// needsVariable makes a missing language a failure, where CI has installed them
// all.
const needsVariable = "CI_NEEDS_LANGUAGES"

// candidate is a worker of this repository.
type candidate struct {
	name string
	// tools are the programs that it takes, with the Debian packages that have
	// them.
	tools map[string]string
	// prepare gives the worker, whose slow task takes scale times slowTime.
	prepare func(t *testing.T, scale int) Worker
	// unchecked are the checks that have nothing to see in it.
	unchecked []string
}

// never is what simple workers do not do.
var never = []string{"always/deliveries", "always/telling", "always/waiting", "always/capabilities"}

// simple are what the one-file workers in docs/workers leave unchecked: their
// values are small numbers.
var simple = append([]string{"tasks/exact-value", "limits/large-result"}, never...)

// simpleRecords are for those workers.
func simpleRecords(scale int) Records {
	return Records{
		Quick:     json.RawMessage(`{"task_id":"words_1","params":{"text":"to be,\nor\tnot  to be"}}`),
		Slow:      fmt.Appendf(nil, `{"task_id":"wait_1","params":{"seconds":%g}}`, slowTime.Seconds()*float64(scale)),
		Failing:   json.RawMessage(`{"task_id":"words_2"}`),
		Retryable: json.RawMessage(`{"task_id":"words_3","params":{"path":"/no/such/file"}}`),
	}
}

func script(tool, file string) func(*testing.T, int) Worker {
	return func(_ *testing.T, scale int) Worker {
		return Worker{Command: []string{tool, filepath.Join("..", "..", "docs", "workers", file)}, Records: simpleRecords(scale)}
	}
}

func python(t *testing.T, scale int, args ...string) Worker {
	pkg, err := filepath.Abs(filepath.Join("..", "..", "examples", "python-worker"))
	if err != nil {
		t.Fatal(err)
	}
	return Worker{
		Command: append([]string{"python3", "-B"}, args...),
		Env:     append(os.Environ(), "PYTHONPATH="+pkg),
		Records: records(scale),
	}
}

func goSDK(t *testing.T, scale int, concurrency string) Worker {
	w := withFault(t, "", scale)
	w.Env = append(os.Environ(), sdkVariable+"="+concurrency)
	return w
}

var (
	python3 = map[string]string{"python3": "python3"}

	candidates = []candidate{
		{"node", map[string]string{"node": "nodejs"}, script("node", "worker.mjs"), append([]string{"tasks/order"}, simple...)},
		{"bash", map[string]string{"bash": "bash", "jq": "jq"}, script("bash", "worker.sh"), simple},
		{"perl", map[string]string{"perl": "perl"}, script("perl", "worker.pl"), simple},
		{"c", map[string]string{"cc": "gcc libc6-dev"}, compiled, simple},
		{"python-example", python3, pythonExample, append([]string{"tasks/retryable", "tasks/exact-value", "limits/large-result"}, never...)},
		{"python-one", python3, func(t *testing.T, scale int) Worker { return python(t, scale, "testdata/worker.py", "1") }, []string{"always/capabilities"}},
		{"python-three", python3, func(t *testing.T, scale int) Worker { return python(t, scale, "testdata/worker.py", "3") }, []string{"tasks/order", "always/capabilities"}},
		{"go-one", nil, func(t *testing.T, scale int) Worker { return goSDK(t, scale, "1") }, []string{"always/waiting", "always/capabilities"}},
		{"go-three", nil, func(t *testing.T, scale int) Worker { return goSDK(t, scale, "3") }, []string{"tasks/order", "always/waiting", "always/capabilities"}},
	}
)

// compiled builds the worker in C.
func compiled(t *testing.T, scale int) Worker {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "worker")
	out, err := exec.Command("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, filepath.Join("..", "..", "docs", "workers", "worker.c")).CombinedOutput()
	if err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return Worker{Command: []string{binary}, Records: simpleRecords(scale)}
}

// pythonExample is the text worker. Its slow task is a file that comes slowly.
func pythonExample(t *testing.T, scale int) Worker {
	t.Helper()
	w := python(t, scale, filepath.Join("..", "..", "examples", "python-worker", "worker.py"))
	slow := trickle(t, slowTime*time.Duration(scale))
	path, err := json.Marshal(slow)
	if err != nil {
		t.Fatal(err)
	}
	w.Records = Records{
		Quick:   json.RawMessage(`{"task_id":"text_1","params":{"text":"To be, or not to be."}}`),
		Slow:    json.RawMessage(`{"task_id":"text_2","params":{"path":` + string(path) + `}}`),
		Failing: json.RawMessage(`{"task_id":"text_3"}`),
		// The example calls a file that another process holds retryable; that is
		// not to be had on demand.
	}
	w.Parallel = 1 // or two tasks would share what trickles
	return w
}

// trickle makes a named pipe that takes every reader that long to read.
func trickle(t *testing.T, takes time.Duration) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slow")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		var pipe *os.File
		var opened time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if pipe == nil { // without a reader this is an error
				pipe, _ = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
				opened = time.Now()
				continue
			}
			if _, err := io.WriteString(pipe, "word "); err != nil || time.Since(opened) > takes {
				pipe.Close()
				pipe = nil
			}
		}
	})
	t.Cleanup(writer.Wait)
	return path
}

// missing gives the packages whose programs are not there.
func (c candidate) missing() string {
	var packages []string
	for tool, pkg := range c.tools {
		if _, err := exec.LookPath(tool); errors.Is(err, exec.ErrNotFound) {
			packages = append(packages, pkg)
		}
	}
	slices.Sort(packages)
	return strings.Join(packages, " ")
}

// inShort are the candidates that -short leaves: the others start some hundred
// interpreters.
var inShort = []string{"go-one", "python-one", "bash"}

// The examples, the one-file workers of the documentation and both SDKs keep
// every rule.
func TestWorkersOfThisRepository(t *testing.T) {
	t.Parallel()
	var there []candidate
	for _, c := range candidates {
		if testing.Short() && !slices.Contains(inShort, c.name) {
			continue
		}
		packages := c.missing()
		if packages == "" {
			there = append(there, c)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if os.Getenv(needsVariable) == "1" {
				t.Fatalf("not there: apt-get install %s", packages)
			}
			t.Skipf("left out; to have it tested: apt-get install %s", packages)
		})
	}
	broken := func(i int, r Result) bool {
		return r.Status == Failed || r.Status == NotChecked && !slices.Contains(there[i].unchecked, r.Check)
	}
	reports := checkAll(t, len(there), 4, func(i, scale int) Worker {
		w := there[i].prepare(t, scale)
		w.StartTimeout = time.Duration(10*scale) * time.Second
		w.Patience = time.Duration(10*scale) * time.Second
		return w
	}, func(i int, r *Report) bool {
		return !slices.ContainsFunc(r.Results, func(r Result) bool { return broken(i, r) })
	})
	for i, c := range there {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range reports[i].Results {
				if broken(i, r) {
					t.Errorf("%s %s: %s\n%s", r.Check, r.Status, r.Seen, r.Detail)
				}
			}
		})
	}
}
