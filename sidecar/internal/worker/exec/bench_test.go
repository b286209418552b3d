package exec_test

import (
	"log/slog"
	osexec "os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/exec"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// BenchmarkTrue runs /bin/true in the stage, with all its pipes, and in a loop of fork
// and exec, at the same concurrency. The two alternate, so that a busy machine slows
// both.
func BenchmarkTrue(b *testing.B) {
	for _, slots := range []int{1, 4, 16} {
		b.Run("slots="+strconv.Itoa(slots), func(b *testing.B) {
			s := setup(b, func(c *exec.Config) {
				c.Command, c.Slots, c.Log = []string{"/bin/true"}, slots, slog.New(slog.DiscardHandler)
			})
			wait.Until(b, "every slot", func() bool { return s.stage.Up() == slots })
			var ours, bare, ourCPU, bareCPU, own time.Duration
			const round = 200
			b.ResetTimer()
			for done := 0; done < b.N; done += round {
				began, used, self := time.Now(), cpu(b), cpuOf(b, syscall.RUSAGE_SELF)
				s.batch(round)
				ours, ourCPU = ours+time.Since(began), ourCPU+cpu(b)-used
				own += cpuOf(b, syscall.RUSAGE_SELF) - self
				began, used = time.Now(), cpu(b)
				bareLoop(b, slots, round)
				bare, bareCPU = bare+time.Since(began), bareCPU+cpu(b)-used
			}
			n := float64((b.N + round - 1) / round * round)
			b.ReportMetric(n/ours.Seconds(), "tasks/s")
			b.ReportMetric(n/bare.Seconds(), "bare/s")
			b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
			b.ReportMetric(float64(bareCPU)/float64(ourCPU), "cpu-ratio")
			b.ReportMetric(float64(ourCPU.Microseconds())/n, "cpu-µs/task")
			b.ReportMetric(float64(own.Microseconds())/n, "own-cpu-µs/task")
			b.ReportMetric(float64(runtime.NumCPU()), "cpus")
		})
	}
}

// batch runs n tasks.
func (b *bundle) batch(n int) {
	ts := make([]task.Task, n)
	for i := range ts {
		b.seq++
		ts[i] = task.Task{Delivery: "run.1", Seq: b.seq, Attempt: 1, Record: []byte(`{"task_id":"t"}`), Info: task.Info{TaskID: "t"}}
	}
	b.queue.Offer(ts)
	for range ts {
		if o := <-b.outcomes; o.Conclusion != task.Succeeded {
			b.t.Fatalf("%v: %s", o.Conclusion, o.Message)
		}
	}
}

// bareLoop starts and waits for n processes without pipes.
func bareLoop(b *testing.B, at, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := osexec.Command("/bin/true").Run(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// cpu returns the processor time that this process and its children have used. Unlike
// elapsed time it does not depend on the load of the machine.
func cpu(b *testing.B) time.Duration {
	return cpuOf(b, syscall.RUSAGE_SELF) + cpuOf(b, syscall.RUSAGE_CHILDREN)
}

func cpuOf(b *testing.B, whose int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(whose, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
