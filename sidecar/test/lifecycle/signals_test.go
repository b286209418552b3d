//go:build lifecycle

package lifecycle

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// backWithin is when unstarted records are back in the queue after a signal.
const backWithin = 1500 * time.Millisecond

// TestSIGTERMFinishesWhatRuns: nothing is claimed any more, what was claimed
// and not started is back at the head in its old order within 1.5 s, what runs
// is finished and reported, and the exit status is 0.
func TestSIGTERMFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := b.gate("gate")
	b.push(job{TaskID: "a", Do: "gate", Path: gate}, job{TaskID: "b", Do: "gate", Path: gate + "2"})
	s := b.sidecar()
	b.begun(gate)
	b.begun(gate + "2")
	rest := names("t", 300)
	b.push(jobs(rest...)...)
	s.signal(syscall.SIGTERM)
	wait.Until(t, "the rest in its old order", func() bool { return slices.Equal(b.queue(), rest) })
	if d := machine.Since(s.signalled); d > backWithin {
		t.Errorf("the rest was back after %v", d)
	}
	b.push(job{TaskID: "late"}) // the stopping sidecar does not take it
	wait.Pass(300 * time.Millisecond)
	b.open(gate)
	b.open(gate + "2")
	took := s.exits(0, 3*time.Second)
	t.Logf("ended %v after the signal, of which the tasks ran 0.3 s", took)
	if !b.done("a", "b") {
		t.Error("a running task was not reported")
	}
	if got := b.queue(); !slices.Equal(got, append(rest, "late")) {
		t.Errorf("the queue has %d records, beginning with %v", len(got), got[:min(5, len(got))])
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("keys left over: %v", left)
	}
	s.silent()
}

// TestClaimedAheadGoesBackInItsOldOrder: with thousands of short tasks there
// are always some that were claimed and have not started.
func TestClaimedAheadGoesBackInItsOldOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	all := names("t", 20000)
	b.push(jobs(all...)...)
	s := b.sidecar("MAX_CONCURRENT_TASKS=4")
	wait.Until(t, "it to be in full swing", func() bool { return len(b.queue()) < 19000 })
	s.terminate(3 * time.Second)
	queue := b.queue()
	// Those that were in the workers' hands end, so the queue is a tail of all,
	// with gaps at its beginning only where a later task was the quicker one.
	for i, id := range queue {
		want := all[len(all)-len(queue)+i]
		if id != want && i >= 4 {
			t.Fatalf("at %d of %d is %s, want %s", i, len(queue), id, want)
		}
	}
	for _, id := range all[:len(all)-len(queue)] {
		if b.result(id) == "" && !slices.Contains(queue[:min(8, len(queue))], id) {
			t.Errorf("%s is lost", id)
		}
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("keys left over: %v", left)
	}
}

// TestWhatIsNotFinishedInTimeGoesBack: not counted as an attempt, and the whole
// group of the worker is dead.
func TestWhatIsNotFinishedInTimeGoesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defies := b.gate("defies")
	b.push(job{TaskID: "defies", Do: "defy", Path: defies}, job{TaskID: "long", Do: "sleep", For: "1h"})
	s := b.sidecar("SIDECAR_SHUTDOWN_TIMEOUT=3s")
	b.begun(defies)
	wait.Until(t, "both to be claimed", func() bool { return len(b.queue()) == 0 })
	b.push(job{TaskID: "next"})
	wait.Until(t, "it to be in flight", func() bool { return s.says("worker ready") })
	took := s.terminate(4 * time.Second)
	t.Logf("ended %v after the signal with a budget of 3 s", took)
	queue := b.queue()
	slices.Sort(queue[:2])
	if !slices.Equal(queue, []string{"defies", "long", "next"}) {
		t.Errorf("queue %v", queue)
	}
	if n := b.attempts(); n != 0 {
		t.Errorf("%d records were charged an attempt", n)
	}
	sleeper, err := os.ReadFile(defies + ".started")
	if err != nil {
		t.Fatal(err)
	}
	if proc.Alive(string(sleeper)) {
		t.Error("the worker's own child still runs")
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("keys left over: %v", left)
	}
}

// TestASecondSignalLetsGoWithinTwoSeconds, whichever the two are.
func TestASecondSignalLetsGoWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]syscall.Signal{{syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGINT}} {
		t.Run(fmt.Sprint(pair[0], " ", pair[1]), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			defies := b.gate("defies")
			b.push(job{TaskID: "defies", Do: "defy", Path: defies}, job{TaskID: "long", Do: "sleep", For: "1h"})
			s := b.sidecar("SIDECAR_KILL_GRACE=5s")
			b.begun(defies)
			wait.Until(t, "both to be claimed", func() bool { return len(b.queue()) == 0 })
			s.signal(pair[0])
			wait.Pass(200 * time.Millisecond)
			s.signal(pair[1])
			t.Logf("ended %v after the second signal", s.exits(0, 2*time.Second))
			queue := b.queue()
			slices.Sort(queue)
			if !slices.Equal(queue, []string{"defies", "long"}) || b.attempts() != 0 {
				t.Errorf("queue %v, %d attempts", queue, b.attempts())
			}
			if left := b.leftovers(); len(left) > 0 {
				t.Errorf("keys left over: %v", left)
			}
		})
	}
}

// TestSIGTSTPIsQuietUntilSIGCONT: what runs goes on, nothing new starts, and
// nothing lies in our hands meanwhile.
func TestSIGTSTPIsQuietUntilSIGCONT(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := b.gate("gate")
	b.push(job{TaskID: "running", Do: "gate", Path: gate})
	s := b.sidecar()
	b.begun(gate)
	s.signal(syscall.SIGTSTP)
	wait.Until(t, "its word", func() bool { return s.says(`"quiet: no new tasks until SIGCONT"`) })
	wait.Pass(50 * time.Millisecond)
	rest := names("t", 5)
	b.push(jobs(rest...)...)
	wait.Pass(1500 * time.Millisecond) // longer than any wait that was under way
	if got := b.queue(); !slices.Equal(got, rest) {
		t.Errorf("while quiet the queue was %v", got)
	}
	b.open(gate)
	wait.Until(t, "the running task's end", func() bool { return b.done("running") })
	s.signal(syscall.SIGCONT)
	wait.Until(t, "the rest", func() bool { return b.done(rest...) })
	t.Logf("all done %v after SIGCONT", time.Since(s.signalled))
	s.signal(syscall.SIGTSTP) // and it can be stopped while quiet
	s.terminate(2 * time.Second)
	s.silent()
}

// TestSIGHUPReplacesTheWorkersAndLosesNothing.
func TestSIGHUPReplacesTheWorkersAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sidecar("MAX_CONCURRENT_TASKS=3")
	wait.Until(t, "three workers", func() bool { return strings.Count(s.log.String(), `"worker ready"`) == 3 })
	old := proc.Marked(t, s.mark)
	ids := names("t", 300)
	for i, id := range ids {
		b.push(job{TaskID: id, Do: "sleep", For: "10ms"})
		switch i {
		case 100:
			s.signal(syscall.SIGHUP)
		case 150: // two signals of a kind that wait at the same time are one
			wait.Until(t, "the first round", func() bool { return s.says("replacing the workers one by one") })
			s.signal(syscall.SIGHUP)
		}
	}
	wait.Until(t, "every result", func() bool { return b.done(ids...) })
	wait.Until(t, "both rounds' end", func() bool { return strings.Count(s.log.String(), `"workers are replaced"`) == 2 })
	for _, p := range proc.Marked(t, s.mark) {
		if slices.Contains(old, p) && !strings.Contains(p, " run ") {
			t.Errorf("an old worker is left: %s", p)
		}
	}
	if n := b.attempts(); n != 0 {
		t.Errorf("%d attempts were charged", n)
	}
	s.terminate(2 * time.Second)
	s.silent()
}

// TestSIGQUITShowsWhatIsGoingOn, on stderr, and the sidecar goes on.
func TestSIGQUITShowsWhatIsGoingOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := b.gate("gate")
	b.push(job{TaskID: "stuck", Do: "gate", Path: gate})
	s := b.sidecar()
	b.begun(gate)
	s.signal(syscall.SIGQUIT)
	wait.Until(t, "the dump", func() bool { return s.says("pipeline/claim.(*Loop).Run") })
	for _, want := range []string{"sidecar: state=running ready=true", `task_id="stuck"`, "goroutine "} {
		if !s.says(want) {
			t.Errorf("the dump does not have %q", want)
		}
	}
	b.open(gate)
	b.push(job{TaskID: "after"})
	wait.Until(t, "it to go on", func() bool { return b.done("stuck", "after") })
	s.terminate(2 * time.Second)
}

// TestReadyFD: one line when it is ready, the end of file at the latest when
// it is gone, and no worker holds the descriptor.
func TestReadyFD(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := b.start([]string{"--ready-fd", "3", "--", self, "worker"}, []*os.File{w})
	_ = w.Close()
	if err := r.SetReadDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	var got struct {
		RedisURL string `json:"redis_url"`
		Pid      int
	}
	in := json.NewDecoder(r)
	if err := in.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.RedisURL != "redis://"+b.addr+"/0" || got.Pid != s.cmd.Process.Pid {
		t.Errorf("ready line %+v", got)
	}
	if in.More() {
		t.Error("the descriptor is open after the ready line")
	}
	s.terminate(2 * time.Second)
}

// TestALogReaderThatGoesAway does not end the sidecar: every write to its stderr
// fails from then on, and nothing else does.
func TestALogReaderThatGoesAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := b.launch(w, "LOG_LEVEL=DEBUG")
	_ = w.Close()
	_ = r.Close()
	ids := names("t", 20)
	b.push(jobs(ids...)...)
	wait.Until(t, "every result", func() bool { return b.done(ids...) })
	s.terminate(2 * time.Second)
}
