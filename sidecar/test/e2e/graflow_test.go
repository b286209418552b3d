//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// equal compares what a producer reported with what it should have.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 200} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.graflow()
			var got struct {
				Session string
				Results map[string]int
			}
			b.report(&got, "group.py", strconv.Itoa(n))
			want := map[string]int{}
			for i := range n {
				want[fmt.Sprintf("square_%d", i)] = i * i
			}
			equal(t, "results as the producer read them", got.Results, want)
			for i := range n {
				if text := b.result(got.Session, fmt.Sprintf("square_%d", i)); text != strconv.Itoa(i*i) {
					t.Errorf("square_%d in Redis: %s", i, text)
				}
			}
		})
	}
}

// A producer must not be able to tell which worker ran its tasks: the same
// script is run against the sidecar and against Graflow's own worker.
func TestSameAsGraflowsOwnWorker(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"errors.py", "values.py"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			ours, theirs := newBench(t), newBench(t)
			ours.graflow()
			theirs.ownWorker(setup{})
			got, want := ours.produce(script), theirs.produce(script)
			if bytes.Equal(got, want) {
				return
			}
			gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
			for i := range max(len(gotLines), len(wantLines)) {
				g, w := lineAt(gotLines, i), lineAt(wantLines, i)
				if g != w {
					t.Errorf("line %d\n got %.500s\nwant %.500s", i+1, g, w)
				}
			}
		})
	}
}

func lineAt(lines [][]byte, i int) string {
	if i >= len(lines) {
		return "(no such line)"
	}
	return string(lines[i])
}

func TestUpstreamResultsAreKeywordArguments(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it hands the channel a binary client, so that every value a worker reads is None")
	b := newBench(t)
	b.graflow()
	var got struct{ Result any }
	b.report(&got, "upstream.py")
	equal(t, "result", got.Result, map[string]any{
		"total":   6.0,
		"count":   "3 rows",
		"scaled":  []any{[]any{110.0, 120.0, 130.0}, "default"},
		"by_name": []any{true, 10.0, true},
	})
}

func TestChannelOperations(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it hands the channel a binary client, so that every value a worker reads is None")
	b := newBench(t)
	b.graflow("MAX_CONCURRENT_TASKS=3")
	var got struct {
		Results            [][]any
		Log, Reversed      []string
		Sum, Half, Counter string
		ShortTTL           bool `json:"short_ttl"`
		Locks              []string
	}
	b.report(&got, "channel.py")
	all := []string{"0", "1", "2", "3", "4", "5"}
	for i, result := range got.Results {
		want := []any{map[string]any{"from": float64(i)}, "nothing", true, true, "hello"}
		equal(t, fmt.Sprintf("member %d", i), result, want)
	}
	equal(t, "append", got.Log, all)
	equal(t, "prepend", got.Reversed, all)
	equal(t, "atomic_add of integers", got.Sum, "15")
	equal(t, "atomic_add of halves", got.Half, "3")
	equal(t, "the counter under the lock", got.Counter, "6")
	equal(t, "set with a TTL", got.ShortTTL, true)
	equal(t, "locks left over", got.Locks, []string{})
}

func TestNestedGroups(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.graflow("MAX_CONCURRENT_TASKS=4") // two wait for a barrier, two work
	var got struct{ Results map[string]string }
	b.report(&got, "nested.py")
	want := map[string]string{"fan_out": "fanned out"}
	for _, name := range []string{"plain", "inner_1", "inner_2", "made_1", "made_2", "made_3"} {
		want[name] = name + " done"
	}
	equal(t, "results", got.Results, want)
}

// TestNestedGroupsThreeDeepWithOneSlot: with one slot, the members of a group run in an
// extra slot while the task that started the group waits. Graflow's own worker, with one
// thread, waits here until each barrier times out.
func TestNestedGroupsThreeDeepWithOneSlot(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "its only slot waits for tasks that need it")
	b := newBench(t)
	w := b.graflow("MAX_CONCURRENT_TASKS=1", "LOG_LEVEL=DEBUG")
	var got struct{ Results map[string]string }
	b.report(&got, "deep.py")
	want := map[string]string{}
	for _, name := range []string{"top_1", "top_2", "a_1", "b_1", "b_2", "c_1", "c_2", "c_3"} {
		want[name] = name + " done"
	}
	equal(t, "results", got.Results, want)
	started := 0
	for _, line := range w.lines() {
		if line.Msg == "worker started for an extra slot" {
			started++
		}
	}
	equal(t, "workers for the three extra slots", started, 3)
}

func TestNextTaskIterationsAndRetries(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.graflow()
	var got struct {
		Results map[string]any
		Trail   []string
	}
	b.report(&got, "dynamic.py")
	equal(t, "results", got.Results, map[string]any{
		"adds": "adds", "added": "added", "after_adds": "after_adds", "target": "target",
		"iterates": 0.0, "flaky": "third time, 3 allowed", "ends_early": "ended",
	})
	equal(t, "what ran", got.Trail, []string{
		"adds", "after_adds", "iteration 0", "iteration 1", "iteration 2", "iteration 3", "iteration 4",
		"jumps", "target", "try 0", "try 1", "try 2",
	})
}

func TestSameGraphTwiceWithNextTask(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "its graph cache keeps what next_task added, and the second run skips the successors")
	b := newBench(t)
	b.graflow("MAX_CONCURRENT_TASKS=1") // the same process every time
	var got struct {
		Followed [][]string
		Graphs   int
	}
	b.report(&got, "twice.py")
	equal(t, "graphs that the runs named", got.Graphs, 1)
	for i, followed := range got.Followed {
		equal(t, fmt.Sprintf("successors in run %d", i+1), followed, []string{"after_first", "after_second"})
	}
}

func TestGroupNameReusedAndStaleCompletions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.graflow()
	var got struct {
		Outcomes [][][]any
		Left     []string
	}
	b.report(&got, "reused.py")
	for round, outcome := range got.Outcomes {
		r := float64(round)
		equal(t, fmt.Sprintf("round %d", round), outcome, [][]any{{r, "a"}, {r, "b"}, {r, "c"}})
	}
	equal(t, "rounds", len(got.Outcomes), 5)
	equal(t, "barriers left over", got.Left, []string{})
}

func TestBigArgumentsAndResults(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it hands the channel a binary client, so that every value a worker reads is None")
	b := newBench(t)
	b.graflow()
	var got struct {
		Failed          []string
		Reversed, Upper bool
		Size            int
		ErrorSize       int `json:"error_size"`
	}
	b.report(&got, "big.py")
	equal(t, "6 MB from the channel, 6 MB result", got.Reversed, true)
	equal(t, "6 MB bound argument, 6 MB result", got.Upper, true)
	equal(t, "size of the result", got.Size, 6<<20)
	equal(t, "failed tasks", got.Failed, []string{"far_too_long"})
	// Graflow says it twice: "An error occurred: X (caused by X)".
	equal(t, "size of the error text", got.ErrorSize, 2*(6<<20)+len("An error occurred:  (caused by )"))
}

func TestRecordsWithNoGroup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.graflow()
	var got struct {
		Results map[string]any
		Left    []string
	}
	b.report(&got, "nogroup.py")
	// Graflow stores the exception itself where a task fails, as its text.
	equal(t, "results", got.Results, map[string]any{"one": 1.0, "two": 2.0, "fails": "nobody is told"})
	equal(t, "barriers and completions", got.Left, []string{})
}

// Tasks of an importable module are pickled by reference, those of __main__ by
// value. A module is found as with `python -m graflow.worker.main`: through
// PYTHONPATH, or in the working directory.
func TestTasksOfModuleAndMain(t *testing.T) {
	t.Parallel()
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]setup{
		"PYTHONPATH":        {env: []string{"PYTHONPATH=" + folder}},
		"working directory": {dir: folder},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if ownWorker() {
				b.ownWorker(s)
			} else {
				b.sidecar(s)
			}
			var got struct {
				Results map[string]any
				Here    []any
			}
			b.report(&got, "modules.py")
			equal(t, "results", got.Results, map[string]any{
				"price":    []any{119.0, "shop"},
				"shipping": []any{"DE", "shipping", "shop"},
				"in_main":  []any{42.0, "__main__"},
			})
			equal(t, "calls in the producer's own copy", got.Here, []any{})
		})
	}
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.graflow("MAX_CONCURRENT_TASKS=3")
	var got struct {
		Results  map[string]any
		Statuses map[string]string
		GaveUp   bool `json:"gave_up"`
		Written  any
	}
	b.report(&got, "feedback.py")
	equal(t, "results", got.Results, map[string]any{"approval": true, "words": "größer"})
	equal(t, "the error of the unanswered one", got.GaveUp, true)
	equal(t, "requests", got.Statuses, map[string]string{
		"approval": "completed", "words": "completed", "unanswered": "timeout",
	})
	equal(t, "answer in the channel", got.Written, true)
}

func TestGraflowsOwnExample(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.graflow("MAX_CONCURRENT_TASKS=3")
	const want = "Results\nTask test_task_1: result_1\nTask test_task_2: result_2\nTask test_task_3: result_3\n"
	if got := string(b.produce("distributed_example.py")); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}
