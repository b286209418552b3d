//go:build faults

package faults

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// operations are the scripts that, in these tests, only commands of an operator send.
var operations = []string{"requeue", "drop", "pause", "command", "heads", "list_heads"}

// command runs a command of the sidecar's binary on the Redis at addr and returns its output.
// It retries the command where Redis could not be reached. A retry may also fail with the
// text gone, if gone is not empty: an earlier try whose reply was lost has done the work.
func (w *world) command(addr, gone string, args ...string) string {
	w.mu.Lock()
	w.commands++
	number := w.commands
	w.mu.Unlock()
	return w.commandOf(func() (string, error) { return fleet(number) }, addr, gone, args...)
}

// commandOf is command with the given binary.
func (w *world) commandOf(program func() (string, error), addr, gone string, args ...string) string {
	binary, err := program()
	if err != nil {
		w.violation("%v", err)
		return ""
	}
	var said bytes.Buffer
	for try := range 10 {
		said.Reset()
		cmd := exec.Command(binary, args...)
		cmd.Env = append(proc.Env(), "REDIS_URL=redis://"+addr+"/0", "REDIS_KEY_PREFIX="+w.prefix, "SIDECAR_REDIS_READ_TIMEOUT=1s")
		cmd.Stdout, cmd.Stderr = &said, &said
		err = cmd.Run()
		if err == nil || try > 0 && gone != "" && strings.Contains(said.String(), gone) {
			return said.String()
		}
		const tryAgain = 75
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != tryAgain {
			break
		}
	}
	w.violation("sidecar %s: %v: %s", strings.Join(args, " "), err, said.String())
	return ""
}

// operate runs each command of an operator that sends a script: it requeues and drops dead
// letters, pauses claims, lists records that wait and tasks that run, and drains a sidecar.
// late is how long after the end of its command a request may arrive.
func (w *world) operate(p *faultproxy.Proxy, late time.Duration) {
	w.t.Helper()
	texts := scriptTexts(w.t)
	for _, name := range operations { // a cut must hit the script, not a reply that Redis lacks it
		ctx, cancel := bounded()
		if err := w.c.ScriptLoad(ctx, texts[name]).Err(); err != nil {
			w.t.Error(err)
		}
		cancel()
	}
	s := w.start(setup{env: append([]string{"SIDECAR_MAX_ATTEMPTS=1"}, eager...)})
	// Each kills its worker once, which uses up its attempts.
	again, dropped := w.one(record{Kill: "self-start"}), w.one(record{Kill: "self-start"})
	w.command(p.Addr(), "dead letter", "dead", "requeue", w.letterOf(again))
	w.command(p.Addr(), "dead letter", "dead", "drop", w.letterOf(dropped))
	w.settle(20 * time.Second)
	wait.Pass(late)
	if left := w.final().Letters; len(left) > 0 {
		w.violation("dead letters are left: %v", left)
	}
	w.mu.Lock()
	delete(w.tasks, dropped)
	w.mu.Unlock()

	w.command(p.Addr(), "", "pause", "--all")
	wait.Pass(late + time.Second) // the sidecar knows of the pause by then
	waits := w.one(record{})
	if text := w.command(p.Addr(), "", "queue", "peek"); !strings.Contains(text, waits) {
		w.violation("the queue does not hold %s: %s", waits, text)
	}
	w.command(p.Addr(), "", "resume", "--all")
	runs := w.one(record{Ms: 2500})
	wait.Within(w.t, 20*time.Second, "a task in flight", func() bool {
		held, err := w.heldBy(s.id)
		return err == nil && len(held) == 1 && held[0] == runs
	})
	if text := w.command(p.Addr(), "", "tasks"); !strings.Contains(text, runs) {
		w.violation("%s is not in flight: %s", runs, text)
	}
	w.drainBy(p.Addr(), s)
	w.settle(5 * time.Second)
}

// letterOf waits for the dead letter of a task and returns its id.
func (w *world) letterOf(task string) (id string) {
	w.t.Helper()
	wait.Within(w.t, 20*time.Second, "the dead letter of "+task, func() bool {
		ctx, cancel := bounded()
		defer cancel()
		ids, err := w.c.ZRange(ctx, w.key("sidecar", "dead"), 0, -1).Result()
		for _, i := range ids {
			if w.c.HGet(ctx, w.key("sidecar", "dead", i), "task_id").Val() == task {
				id = i
			}
		}
		return err == nil && id != ""
	})
	return id
}

// requeue requeues the dead letter of a task with the given binary, which is one more push.
func (w *world) requeue(program func() (string, error), task string) {
	w.t.Helper()
	w.commandOf(program, w.server.Addr, "", "dead", "requeue", w.letterOf(task))
	w.mu.Lock()
	w.tasks[task].Pushes++
	w.mu.Unlock()
}

// drainBy drains a sidecar by the command, on the Redis at addr, and waits until it has
// ended.
func (w *world) drainBy(addr string, s *sidecar) {
	w.t.Helper()
	w.mu.Lock()
	s.asked = true
	w.mu.Unlock()
	w.command(addr, "no sidecar has the id", "drain", s.id)
	if !s.ends(20 * time.Second) {
		w.violation("%s was told to drain, and runs", s.id)
		return
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		w.violation("%s ended with status %d (%v) after it was told to drain", s.id, status, s.cmd.ProcessState)
	}
}
