//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
)

// cost is what a set of workers takes.
type cost struct {
	all       time.Duration // from the sidecar's start until every worker is ready
	one       time.Duration // from one worker's end until the next is ready, at the median
	rss, pss  int           // of all Python processes, in KiB
	processes int
}

const costSlots = 8

// TestForksAreCheaper measures what docs/processes.md says. Not parallel: it
// measures time, which it only tells, and memory, which it judges.
func TestForksAreCheaper(t *testing.T) {
	sidecarOnly(t, "it forks nothing")
	alone := measureWorkers(t, "SIDECAR_PREFORK=false")
	forked := measureWorkers(t, "SIDECAR_PREFORK=true")
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	row := func(what string, of func(cost) string) {
		fmt.Fprintf(out, "| %s\t| %s\t| %s\t|\n", what, of(alone), of(forked))
	}
	mib := func(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }
	millis := func(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
	fmt.Fprintf(out, "| %d slots\t| SIDECAR_PREFORK=false\t| true\t|\n", costSlots)
	fmt.Fprintf(out, "| ---\t| ---\t| ---\t|\n")
	row("start of the sidecar until all workers are ready", func(c cost) string { return millis(c.all) })
	row("end of one worker until the next one is ready", func(c cost) string { return millis(c.one) })
	row("memory of all workers, shared pages divided (PSS)", func(c cost) string { return mib(c.pss) })
	row("the same for each slot", func(c cost) string { return mib(c.pss / costSlots) })
	row("sum of what each maps (RSS)", func(c cost) string { return mib(c.rss) })
	row("Python processes", func(c cost) string { return strconv.Itoa(c.processes) })
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	if forked.pss > alone.pss*2/3 {
		t.Errorf("forks take %s and workers by themselves %s: sharing is lost", mib(forked.pss), mib(alone.pss))
	}
	if forked.processes != costSlots+1 || alone.processes != costSlots {
		t.Errorf("%d and %d processes", forked.processes, alone.processes)
	}
}

func measureWorkers(t *testing.T, prefork string) (c cost) {
	t.Helper()
	b := newBench(t)
	w := b.graflow(prefork, fmt.Sprint("MAX_CONCURRENT_TASKS=", costSlots), "SIDECAR_RESTART_BACKOFF_MIN=1ms")
	defer w.stop()
	last := w.await(workerReady, costSlots)
	c.all = last.Time.Sub(w.await("sidecar started", 1).Time)

	var got struct{ Results map[string]int }
	b.report(&got, "group.py", "200")
	if len(got.Results) != 200 {
		t.Errorf("%d results, want 200", len(got.Results))
	}
	for _, process := range proc.Marked(t, w.mark) {
		text, _, _ := strings.Cut(process, " ")
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if pid == w.cmd.Process.Pid {
			continue
		}
		memory := memoryOf(t, pid)
		c.rss += memory["Rss"]
		c.pss += memory["Pss"]
		c.processes++
	}

	var starts []time.Duration
	for i := range 5 {
		ready := w.events(workerReady)
		_ = syscall.Kill(ready[len(ready)-1].Pid, syscall.SIGKILL)
		ended := w.await("worker ended", i+1)
		starts = append(starts, w.await(workerReady, len(ready)+1).Time.Sub(ended.Time))
	}
	slices.Sort(starts)
	c.one = starts[len(starts)/2]
	return c
}

// memoryOf reads the sums of a process's memory, in KiB.
func memoryOf(t *testing.T, pid int) map[string]int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sums := make(map[string]int)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if fields := strings.Fields(rest); len(fields) == 2 && fields[1] == "kB" {
			sums[name], _ = strconv.Atoi(fields[0])
		}
	}
	return sums
}
