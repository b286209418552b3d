//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func init() { programs["remote"] = remoteProgram }

// remoteProgram is a worker whose tasks are those of a workflow in Python.
func remoteProgram() error {
	protocol.Register("echo_*", func(_ protocol.Context, in map[string]json.RawMessage) (map[string]json.RawMessage, error) {
		return in, nil
	})
	protocol.Register("fail", func(protocol.Context, struct{}) (struct{}, error) {
		return struct{}{}, errors.New("no luck today")
	})
	protocol.Register("retried", func(ctx protocol.Context, in struct{ Tries int64 }) (int64, error) {
		sum, err := ctx.Channel().Add(ctx, "tried", 1)
		if err != nil {
			return 0, err
		}
		n, err := sum.Int64()
		if err == nil && n <= in.Tries {
			err = protocol.Retryable(errors.New("not yet"))
		}
		return n, err
	})
	return protocol.Serve(context.Background(), nil)
}

// A workflow in Python has tasks whose functions are in Go: parameters, results
// and failures go both ways as Graflow has them.
func TestRemoteTasks(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	b.role("remote", "SIDECAR_RETRY_BASE=10ms")
	var got struct {
		Values, Error string
		Bound         []int
		Tries         int
	}
	b.report(&got, "remote.py")
	equal(t, "values", got.Values, `{'bound': {'x': 1.0, 'big': 1180591620717411303424}, 'key': 'from the channel', `+
		`'rows': [3, 1.0, 1152921504606846976, 'ä\u2028'], 'shadowed': 'bound'}`)
	equal(t, "bound parameters", got.Bound, []int{1, 3, 4, 5, 6, 7})
	equal(t, "the error", got.Error, "ParallelGroupError: remote task 'fail' failed: no luck today")
	equal(t, "the try that succeeded", got.Tries, 3)
	for _, pattern := range []string{"queue", "barrier*", "completions*"} {
		if keys, err := b.redis.Keys(t.Context(), b.key(pattern)).Result(); err != nil || len(keys) > 0 {
			t.Errorf("left over: %q, %v", keys, err)
		}
	}
}

// The documented example, as `make polyglot` runs it: Go, Python and Node in one
// workflow on two sidecars, one worker killed in the middle of its task, and the
// results are those of Python alone.
func TestPolyglot(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("there is no node on PATH: apt-get install nodejs")
	}
	binary, err := sidecarBinary()
	if err != nil {
		t.Fatal(err)
	}
	goWorker, err := goWorkerBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, producerPython(t), build.Root("examples", "polyglot", "run.py"), "--json")
	id := nextID()
	cmd.Env = append(newBench(t).env(), "SIDECAR_BIN="+binary, "GO_WORKER="+goWorker, "E2E_MARK="+id)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := proc.Start(cmd); err != nil {
		t.Fatal(err)
	}
	failed := cmd.Wait()
	var got struct {
		Tasks map[string]struct {
			Language string
			Equal    bool
			Stored   int
		}
		Killed   struct{ Task string }
		Ran      map[string][]int
		Counted  int
		Left     int
		Sidecars map[string]int
		Log      []string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", errors.Join(failed, err), testlog.Tail(errs.String()))
	}
	if failed != nil {
		t.Errorf("%v: %s", failed, testlog.Tail(errs.String()))
	}
	equal(t, "tasks", slices.Sorted(maps.Keys(got.Tasks)), []string{"etl.clean", "etl.features", "fetch", "report", "score"})
	for name, task := range got.Tasks {
		if !task.Equal || task.Stored != 1 {
			t.Errorf("%s (%s): equal to Python's: %t, stored %d times", name, task.Language, task.Equal, task.Stored)
		}
	}
	equal(t, "the task that was killed", got.Killed.Task, "etl.features")
	if pids := got.Ran["etl.features"]; len(pids) != 2 || pids[0] == pids[1] {
		t.Errorf("etl.features was run by %v, want two processes", pids)
	}
	equal(t, "tasks counted", got.Counted, 3)
	equal(t, "records left", got.Left, 0)
	equal(t, "exit statuses", got.Sidecars, map[string]int{"east": 0, "west": 0})
	if pids := proc.Marked(t, "E2E_MARK="+id); len(pids) > 0 {
		t.Errorf("processes left over: %v", pids)
	}
	if t.Failed() {
		t.Logf("the sidecars' logs:\n%s", testlog.Tail(strings.Join(got.Log, "")))
	}
}
