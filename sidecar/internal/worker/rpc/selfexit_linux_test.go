package rpc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// TestATaskThatItsWorkerHasNotReadCostsNothing: the task was sent while the worker
// ended.
func TestATaskThatItsWorkerHasNotReadCostsNothing(t *testing.T) {
	b := setup(t, "reads no more and is killed", nil)
	b.push("", "")
	b.push("", "")
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Fatalf("%v %s", o.Conclusion, o.Message)
	}
	o := b.next()
	if o.Conclusion != task.Returned || !o.Unread || !strings.HasPrefix(o.Message, "the worker was killed by SIGKILL") || !strings.HasSuffix(o.Message, " before it read the task") {
		t.Errorf("%v unread=%t: %s", o.Conclusion, o.Unread, o.Message)
	}
}

// TestAWorkerThatExitsAfterEachAnswer: such a worker uses no attempts and is restarted
// at once, and the log says what it should do instead.
func TestAWorkerThatExitsAfterEachAnswer(t *testing.T) {
	b := setup(t, "exits after its first task", func(c *rpc.Config) {
		c.Restart = backoff.Policy{Min: time.Millisecond, Max: time.Hour} // a growing pause would exceed the test's timeout
	})
	const tasks = 25
	b.push("", "")
	returned := 0
	for done := 0; done < tasks; {
		switch o := b.next(); {
		case o.Conclusion == task.Succeeded:
			if done++; done < tasks {
				b.push("", "")
			}
		case o.Conclusion == task.Returned:
			returned++ // without a worker, or unread
			b.push("", "")
		default:
			t.Fatalf("%v: %s", o.Conclusion, o.Message)
		}
	}
	if returned > tasks {
		t.Errorf("%d came back", returned)
	}
	for _, want := range []string{"$/draining", "SIDECAR_MAX_TASKS_PER_CHILD"} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("the log does not speak of %s", want)
		}
	}
	if strings.Contains(b.log.String(), "crash loop") {
		t.Error("it is taken for a crash loop")
	}
}
