//go:build faults

package faults

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// newerFormat builds this source as a version whose keys have a newer format.
var newerFormat = programs.Program("sidecar",
	"-ldflags=-X github.com/graflow/graflow-sidecar/sidecar/internal/redis.newestFormat=2")

// refusedStatus is the exit status of a sidecar and of a command that Redis refuses.
const refusedStatus = 69

// format returns the format of the keys in Redis; "" without one.
func (w *world) format() string {
	ctx, cancel := bounded()
	defer cancel()
	return w.c.Get(ctx, w.key("sidecar", "format")).Val()
}

// refuses checks that a sidecar has ended because of the newer format, and says so in one
// line.
func (w *world) refuses(s *sidecar) {
	w.t.Helper()
	if !s.ends(30 * time.Second) {
		w.violation("%s runs beside a newer format", s.id)
		return
	}
	if status := s.cmd.ProcessState.ExitCode(); status != refusedStatus {
		w.violation("%s ended with %v, want status %d", s.id, s.cmd.ProcessState, refusedStatus)
	}
	var said []string
	for line := range strings.Lines(s.text()) {
		if strings.HasPrefix(line, "sidecar: ") {
			said = append(said, line)
		}
	}
	want := w.key("sidecar", "format") + " says 2: use the newer version"
	if len(said) != 1 || !strings.Contains(said[0], want) || !strings.Contains(said[0], "sidecar explain redis-format") {
		w.violation("%s said %q, want one line with %q", s.id, said, want)
	}
}

// refusesCommand runs a command of this version, which has to refuse the newer format.
func (w *world) refusesCommand(args ...string) {
	w.t.Helper()
	binary, err := sidecarBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(proc.Env(), "REDIS_URL=redis://"+w.server.Addr+"/0", "REDIS_KEY_PREFIX="+w.prefix)
	said, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != refusedStatus || strings.Count(string(said), "\n") != 1 || !strings.Contains(string(said), "says 2") {
		w.violation("sidecar %s: %v: %s", strings.Join(args, " "), err, said)
	}
}

// TestNewerFormat upgrades a fleet to a version with a newer format. The format rises when
// the last older sidecar has left; from then on the older version is refused, in its
// sidecars and its commands. Nothing is lost, and no task runs twice.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.crew(2, setup{binary: sidecarBinary, env: append([]string{"SIDECAR_MAX_ATTEMPTS=1"}, eager...)})
	dies := w.one(record{Kill: "self-start"}) // once, which uses up its attempts
	letter := w.letterOf(dies)
	w.crew(2, setup{binary: newerFormat})
	w.group(w.work(20, 300)...)
	wait.Pass(2500 * time.Millisecond) // two ticks of each
	if got := w.format(); got != "1" {
		w.violation("format %q beside sidecars that know 1 only", got)
	}
	w.group(w.work(10, 300)...)
	for _, s := range old {
		w.hurt(s.id + " leaves")
		s.stop()
	}
	wait.Within(t, 20*time.Second, "the newer format", func() bool { return w.format() == "2" })
	w.group(w.work(10, 300)...)
	late := w.start(setup{binary: sidecarBinary})
	w.mu.Lock()
	late.asked = true // it has no tasks, and its end is no fault
	w.mu.Unlock()
	w.refuses(late)
	w.refusesCommand("pause", "--all")
	w.refusesCommand("resume", "--all")
	w.refusesCommand("dead", "requeue", letter)
	w.refusesCommand("dead", "drop", letter)
	w.commandOf(newerFormat, w.server.Addr, "", "pause", "--all")
	w.commandOf(newerFormat, w.server.Addr, "", "resume", "--all")
	w.requeue(newerFormat, dies)
	w.settle(20 * time.Second)
	_, story := w.verify("newer format, upgrade")
	for id := range w.tasks {
		want := 1
		if id == dies {
			want = 2
		}
		if n := len(story.Of(id).Starts); n != want {
			t.Errorf("%s ran %d times, want %d", id, n, want)
		}
	}
}

// TestNewerFormatUnderARunningSidecar raises the format by hand while an older sidecar runs
// tasks. It ends by itself, reports nothing from then on, and a sidecar that knows the format
// takes its tasks over.
func TestNewerFormatUnderARunningSidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.crew(1, setup{binary: sidecarBinary})[0]
	one, other := w.fill(record{Do: "gate"}), w.fill(record{Do: "gate"})
	w.group(one, other)
	w.runs(one.TaskID)
	w.runs(other.TaskID)
	w.crew(1, setup{binary: newerFormat})
	w.hurt("the format is raised by hand")
	ctx, cancel := bounded()
	defer cancel()
	if err := w.c.Set(ctx, w.key("sidecar", "format"), "2", 0).Err(); err != nil {
		t.Fatal(err)
	}
	w.refuses(old)
	w.openGate(one.TaskID)
	w.openGate(other.TaskID)
	w.settle(30 * time.Second)
	_, story := w.verify("newer format, under a running sidecar")
	for _, r := range []record{one, other} {
		if n := len(story.Of(r.TaskID).Starts); n != 2 {
			t.Errorf("%s ran %d times, want twice", r.TaskID, n)
		}
	}
}
