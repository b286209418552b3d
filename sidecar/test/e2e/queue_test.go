//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// once runs a group of n tasks and returns how many of them each worker ran,
// after asserting that each task ran exactly once.
func once(b *bench, n int) map[string]int {
	b.t.Helper()
	marks := b.key("marks")
	var got struct{ Results []int }
	b.report(&got, "once.py", strconv.Itoa(n), marks)
	var want []int
	var wantRan []string
	for i := range n {
		want = append(want, i)
		wantRan = append(wantRan, fmt.Sprintf("member_%d", i))
	}
	equal(b.t, "results", got.Results, want)
	share := map[string]int{}
	var ran []string
	for _, mark := range b.list(marks) {
		words := strings.Fields(mark)
		ran = append(ran, words[0])
		share[words[1]+" "+words[2]]++
	}
	slices.Sort(ran)
	slices.Sort(wantRan)
	equal(b.t, "tasks that ran", ran, wantRan)
	return share
}

func TestTwoSidecarsOnOneQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, two := b.graflow(), b.graflow()
	b.ready(one, two)
	share := once(b, 100)
	if len(share) != 2 {
		t.Errorf("only one of them worked: %v", share)
	}
}

func TestSidecarAndGraflowWorkerOnOneQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, two := b.graflow(), b.ownWorker(setup{})
	b.ready(one, two)
	share := once(b, 100)
	if len(share) != 2 {
		t.Errorf("only one of them worked: %v", share)
	}
}

// ready waits until every slot of each worker can take a task: one that is
// still starting gets no share of a short group.
func (b *bench) ready(workers ...*worker) {
	b.t.Helper()
	for _, w := range workers {
		word, n := `"msg":"worker ready"`, w.slots
		if w.own {
			word, n = "Worker loop started", 1
		}
		wait.Until(b.t, w.id+" being ready", func() bool { return strings.Count(w.log.String(), word) >= n })
	}
}

// A stop finishes what has begun and leaves the rest on the queue in its order.
func TestStopFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has claimed more than it runs when it is stopped")
	b := newBench(t)
	w := b.graflow("MAX_CONCURRENT_TASKS=2")
	marks, gate := b.key("marks"), b.key("gate")
	var got struct{ Session string }
	b.report(&got, "gate.py", "6", marks, gate)
	wait.Until(b.t, "two tasks running", func() bool { return len(b.list(marks)) == 2 })
	w.signal(syscall.SIGTERM)
	wait.Until(b.t, "the sidecar saying that it stops", func() bool { return strings.Contains(w.log.String(), "stopping") })
	wait.Until(b.t, "the unstarted tasks on the queue again", func() bool { return len(b.queue()) == 4 })
	b.push("later", "s", nil) // what others push meanwhile stays behind them
	if err := b.redis.RPush(t.Context(), gate, "go", "go").Err(); err != nil {
		t.Fatal(err)
	}
	equal(t, "exit status", w.wait(), 0)
	w.assertGone()
	var left []string
	for _, record := range b.queue() {
		left = append(left, taskID(t, record))
	}
	equal(t, "left on the queue", left, []string{"member_2", "member_3", "member_4", "member_5", "later"})
	for i := range 2 {
		equal(t, "result", b.result(got.Session, fmt.Sprintf("member_%d", i)), strconv.Itoa(i))
	}
	equal(t, "tasks that began", len(b.list(marks)), 2)
}

// The sidecar may be started before Redis: it waits, says so once, and works
// when Redis comes.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it exits when Redis is not there")
	private := redistest.Start(t)
	b := &bench{t: t, server: private.Server, redis: private.Client(), prefix: "later"}
	private.Stop()
	w := b.graflow()
	address := net.JoinHostPort(b.server.Host, strconv.Itoa(b.server.Port))
	said := func() (n int) {
		for _, line := range w.lines() {
			if strings.Contains(line.text, address) && (line.Level == "WARN" || line.Level == "ERROR") {
				n++
			}
		}
		return n
	}
	wait.Until(b.t, "a line that says that Redis is away", func() bool { return said() > 0 })
	// A few more attempts, seen from the other side.
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	_ = l.Close()
	equal(t, "lines that say so", said(), 1)
	private.Restart()
	var got struct{ Results map[string]int }
	b.report(&got, "group.py", "3")
	equal(t, "results", got.Results, map[string]int{"square_0": 0, "square_1": 1, "square_2": 4})
}

// taskID reads a record's task.
func taskID(t *testing.T, record string) string {
	t.Helper()
	var r struct {
		TaskID string `json:"task_id"`
	}
	if err := json.Unmarshal([]byte(record), &r); err != nil {
		t.Fatal(err)
	}
	return r.TaskID
}
