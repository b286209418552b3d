//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// The Go example, built and used as its README says.
func TestGoWorkerExample(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	binary, err := goWorkerBinary()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.sidecar(setup{args: []string{"--", binary}})
	b.push("primes_1", b.prefix, map[string]any{"params": map[string]any{"to": 1_000_000}})
	b.push("words_1", b.prefix, map[string]any{"params": map[string]any{"text": "to be or not to be", "top": 1}})
	b.expect("g", 1)
	b.push("nonsense_1", b.prefix, map[string]any{"group_id": "g"})
	equal(t, "primes", b.result(b.prefix, "primes_1"), `{"count":78498,"largest":999983}`)
	if words := b.result(b.prefix, "words_1"); !strings.Contains(words, `"words":6`) {
		t.Errorf("words: %s", words)
	}
	if c := b.completion("g", "nonsense_1"); c.Success || !strings.Contains(c.Error, "nonsense_1") {
		t.Errorf("a kind that it does not know: %+v", c)
	}
}

// The Python example, as its README says; only standard Python is needed.
func TestPythonWorkerExample(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	folder := build.Root("examples", "python-worker")
	b.sidecar(setup{
		args: []string{"--", graflow.Python(t), filepath.Join(folder, "worker.py")},
		env:  []string{"PYTHONPATH=" + folder},
	})
	b.expect("g", 2)
	b.push("text_1", b.prefix, map[string]any{"params": map[string]any{"text": "to be or not to be"}})
	b.push("no_text", b.prefix, map[string]any{"group_id": "g"})
	b.push("no_file", b.prefix, map[string]any{"group_id": "g", "params": map[string]any{"path": "/nonexistent"}})
	var got struct {
		Words    int
		Frequent [][]any
	}
	if err := json.Unmarshal([]byte(b.result(b.prefix, "text_1")), &got); err != nil {
		t.Fatal(err)
	}
	equal(t, "words", got.Words, 6)
	equal(t, "most frequent", got.Frequent[:2], [][]any{{"to", 2.0}, {"be", 2.0}})
	for id, words := range map[string]string{"no_text": "the record needs params.text", "no_file": "No such file"} {
		if c := b.completion("g", id); c.Success || !strings.Contains(c.Error, words) {
			t.Errorf("%s: %+v, want an error that says %q", id, c, words)
		}
	}
}

// expect makes a group's barrier, as Graflow's coordinator does before it
// dispatches. Records that come earlier would find the group over.
func (b *bench) expect(group string, n int) {
	b.t.Helper()
	if err := b.redis.Set(b.t.Context(), b.key("barrier", group, "expected"), n, 0).Err(); err != nil {
		b.t.Fatal(err)
	}
}

// completion is what a group is told about one task.
type completion struct {
	TaskID    string  `json:"task_id"`
	Success   bool    `json:"success"`
	Timestamp float64 `json:"timestamp"`
	Error     string  `json:"error_message"`
}

// completion waits for a task's completion.
func (b *bench) completion(group, task string) completion {
	b.t.Helper()
	var c completion
	wait.Until(b.t, "the completion of "+task, func() bool {
		text, err := b.redis.HGet(b.t.Context(), b.key("completions", group), task).Result()
		return err == nil && json.Unmarshal([]byte(text), &c) == nil
	})
	return c
}
