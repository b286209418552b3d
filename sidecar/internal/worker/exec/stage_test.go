package exec_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/exec"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// script writes a shell script and returns its path.
func script(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker.sh")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProgramsOfTheSystemAreWorkers: none of them was written for a sidecar.
func TestProgramsOfTheSystemAreWorkers(t *testing.T) {
	const record = `{"task_id":"t","params":{"x":20,"list":[3,1,2]}}`
	for _, c := range []struct {
		name    string
		command []string
		want    string // the value; "" means none
	}{
		{"true", []string{"/bin/true"}, ""},
		{"cat", []string{"cat"}, record},
		{"jq", []string{"jq", "-c", ".params.x * 2"}, "40"},
		{"jq, over several lines", []string{"jq", ".params.list | sort"}, "[\n  1,\n  2,\n  3\n]"},
		{"wc", []string{"wc", "-c"}, strconv.Itoa(len(record) + 1)},
		{"a script", []string{script(t, "#!/bin/sh\nread -r record\necho \"$SIDECAR_TASK_ID: ${#record}\"\n")}, fmt.Sprintf(`"task-1: %d"`, len(record))},
		{"text", []string{"printf", `größer "so"\n\n`}, `"größer \"so\""`},
		{"white space", []string{"printf", ` \n\n`}, ""},
		{"what is no strict JSON", []string{"echo", "NaN"}, `"NaN"`},
		{"big integers", []string{"echo", "[1180591620717411303424]"}, "[1180591620717411303424]"},
		{"two values", []string{"printf", `1\n2\n`}, `"1\n2"`},
		{"a byte order mark", []string{"printf", `\357\273\277{"a":1}`}, `{"a":1}`},
		{"nested too deeply to travel", []string{"sh", "-c", "printf '%2000s' | tr ' ' '['; printf '%2000s' | tr ' ' ']'"}, `"` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) { cfg.Command = c.command })
			b.put(record)
			o := b.next()
			if o.Conclusion != task.Succeeded || string(o.Value) != c.want || (o.Value == nil) != (c.want == "") {
				t.Errorf("%v %q (%s), want the value %q", o.Conclusion, o.Value, o.Message, c.want)
			}
			if o.StartedAt.IsZero() || o.EndedAt.Before(o.StartedAt) {
				t.Errorf("from %v to %v", o.StartedAt, o.EndedAt)
			}
		})
	}
}

// TestOutputOfOtherBytes: output that is not UTF-8 is a failure, unless the setting
// names its format.
func TestOutputOfOtherBytes(t *testing.T) {
	for _, c := range []struct {
		name    string
		output  exec.Output
		printed string
		value   string // "" means none
		message string // of a failure
	}{
		{"Latin-1 as text", "", `caf\351`, "", "not UTF-8 (byte 0xE9 at 3)"},
		{"UTF-16 as text", exec.OutputText, `\377\376{\000}\000`, "", "not UTF-8 (byte 0xFF at 0)"},
		{"a character that is cut", exec.OutputText, `a€\342\202`, "", "not UTF-8 (byte 0xE2 at 4)"},
		{"a replacement character is one", exec.OutputText, `\357\277\275`, "\"\uFFFD\"", ""},
		{"Latin-1", exec.OutputLatin1, `caf\351\n`, `"café"`, ""},
		{"JSON in Latin-1", exec.OutputLatin1, ` {"a": "\351\377"}\n`, `{"a": "éÿ"}`, ""},
		{"nothing in Latin-1", exec.OutputLatin1, `\n`, "", ""},
		{"any bytes", exec.OutputBase64, `\000\377\n`, `"AP8K"`, ""},
		{"JSON among any bytes", exec.OutputBase64, `{}`, `"e30="`, ""},
		{"no bytes", exec.OutputBase64, ``, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) {
				cfg.Output, cfg.Command = c.output, []string{"printf", c.printed}
			})
			b.put("{}")
			o := b.next()
			if c.message != "" {
				if o.Conclusion != task.Failed || o.Reason != "output" || !strings.Contains(o.Message, c.message) || !strings.Contains(o.Message, "SIDECAR_EXEC_OUTPUT") {
					t.Errorf("%v %s %q", o.Conclusion, o.Reason, o.Message)
				}
				return
			}
			if o.Conclusion != task.Succeeded || string(o.Value) != c.value || (o.Value == nil) != (c.value == "") {
				t.Errorf("%v %q (%s), want %q", o.Conclusion, o.Value, o.Message, c.value)
			}
		})
	}
}

// TestWhatAnExitMeans: an exit status is the result of the task, a signal is a death.
func TestWhatAnExitMeans(t *testing.T) {
	for _, c := range []struct {
		name    string
		role    string // an entry of the menu, otherwise a shell command
		kind    task.Conclusion
		message string
	}{
		{"a status and last lines", "echo working >&2; echo no such file: x >&2; exit 3", task.Failed, "working\nno such file: x"},
		{"a status alone", "exit 3", task.Failed, "exited with status 3"},
		{"what it printed is no result then", "echo 42; exit 1", task.Failed, "exited with status 1"},
		{"stderr and a success", "echo careful >&2", task.Succeeded, ""},
		{"half a line", "printf 'no line end' >&2; exit 1", task.Failed, "no line end"},
		{"colours", `printf '\033[31mred\033[0m\r\n\n\n' >&2; exit 1`, task.Failed, "red"},
		{"try again", "exits 75", task.Retry, "the printer is out of paper"},
		{"try again, without a word", "exit 75", task.Retry, "exited with status 75"},
		{"SIGKILL from outside", "dies by SIGKILL", task.Lost, "the worker was killed by SIGKILL"},
		{"SIGTERM from outside", "kill -TERM $$; sleep 600", task.Lost, "the worker was killed by SIGTERM"},
		{"SIGHUP from outside", "kill -HUP $$; sleep 600", task.Lost, "the worker was killed by SIGHUP"},
		{"SIGHUP, as a shell says it", "exit 129", task.Failed, "exited with status 129"},
		{"SIGTERM, as a shell says it", "exit 143", task.Failed, "exited with status 143"},
		{"SIGINT, as a shell says it", "exit 130", task.Failed, "exited with status 130"},
		{"a crash", "dies by a segmentation fault", task.Lost, "the worker was killed by SIGSEGV"},
		{"a crash that its shell survives", "sh -c 'kill -SEGV $$'; exit $?", task.Failed, "exited with status 139"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) {
				if menu[c.role] != nil {
					self(t, cfg, c.role)
				} else {
					cfg.Command = []string{"sh", "-c", c.role}
				}
			})
			b.put("{}")
			o := b.next()
			// A shell may add a line about a crash, and the reason of a SIGKILL is uncertain
			// if the counters of the control group cannot be read.
			exact := !strings.HasPrefix(c.name, "a crash that") && c.kind != task.Lost
			if o.Conclusion != c.kind || exact && o.Message != c.message || c.kind == task.Lost && !strings.HasPrefix(o.Message, c.message) {
				t.Errorf("%v %q, want %v %q", o.Conclusion, o.Message, c.kind, c.message)
			}
			exit := task.ExitOther
			switch {
			case c.kind == task.Failed, c.kind == task.Retry:
				exit = task.ExitStatus
			}
			if strings.Contains(c.name, "SIGHUP") {
				exit = task.ExitHangup
			}
			if strings.Contains(c.name, "SIGTERM") || strings.Contains(c.name, "SIGINT") {
				exit = task.ExitSignal
			}
			if o.Exit != exit {
				t.Errorf("its exit is %d, want %d", o.Exit, exit)
			}
			if o.Conclusion != task.Succeeded && o.Value != nil {
				t.Errorf("the value %q", o.Value)
			}
			if o.Conclusion == task.Lost && c.name == "SIGKILL from outside" && o.Stderr != "last words" {
				t.Errorf("stderr %q", o.Stderr)
			}
		})
	}
}

// TestStreamsThatAreNotRead: neither side waits for the other's pipe.
func TestStreamsThatAreNotRead(t *testing.T) {
	huge := `"` + strings.Repeat("6 MB ", 6<<20/5) + `"`
	for _, c := range []struct{ role, record, want string }{
		{"reads nothing", huge, `"done without looking"`},
		{"closes its stdin", huge, `"done with closed eyes"`},
		{"closes its stdin", "{}", `"done with closed eyes"`},
		{"closes its stdout", huge, `"said before"`},
		{"waits for its stdin's end", huge, fmt.Sprintf("[%d,true]", len(huge)+1)},
		{"waits for its stdin's end", "{}", "[3,true]"},
		{"waits for its stdin's end", strings.Repeat("x", 4095), "[4096,true]"},
		{"waits for its stdin's end", strings.Repeat("x", 4096), "[4097,true]"},
		{"echoes", huge, huge},
	} {
		t.Run(fmt.Sprint(c.role, " ", len(c.record)), func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) {
				self(t, cfg, c.role)
				cfg.MaxOutput = 16 << 20
			})
			b.put(c.record)
			if o := b.next(); o.Conclusion != task.Succeeded || string(o.Value) != c.want {
				t.Errorf("%v %.100q (%s), want %.100q", o.Conclusion, o.Value, o.Message, c.want)
			}
		})
	}
}

// TestAllThatIsSaidIsRead: all output is read, however short the process lives and
// however full the pipe is, also by a task after one that has filled its pipe.
func TestAllThatIsSaidIsRead(t *testing.T) {
	say := func(n int) string {
		return fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; head -c %d /dev/zero | tr '\\0' y >&2; printf '\\nlast\\n' >&2", n, n)
	}
	for _, n := range []int{1, 60_000, 64 << 10, 300_000} {
		b := setup(t, func(cfg *exec.Config) { cfg.Command = []string{"sh", "-c", say(n)} })
		for range 3 {
			b.put("{}")
			if o := b.next(); o.Conclusion != task.Succeeded || len(o.Value) != n+2 { // as a JSON string
				t.Errorf("%d bytes: %v %d (%s)", n, o.Conclusion, len(o.Value), o.Message)
			}
		}
		if got := strings.Count(b.log.String(), "line=last "); got != 3 {
			t.Errorf("%d bytes on stderr: %d last lines", n, got)
		}
	}
}

func TestTooMuchOutput(t *testing.T) {
	b := setup(t, func(cfg *exec.Config) {
		self(t, cfg, "floods stdout")
		cfg.KillGrace = 50 * time.Millisecond
	})
	b.put("{}")
	o := b.next()
	if o.Conclusion != task.Failed || o.Reason != "output" || !strings.Contains(o.Message, "more than 1048576 bytes") {
		t.Errorf("%v %s %q", o.Conclusion, o.Reason, o.Message)
	}
	// A process that ends by itself with one byte too many also fails; one with exactly the
	// limit succeeds.
	for n, kind := range map[int]task.Conclusion{1<<20 + 1: task.Failed, 1 << 20: task.Succeeded} {
		b := setup(t, func(cfg *exec.Config) { cfg.Command = []string{"head", "-c", strconv.Itoa(n), "/dev/zero"} })
		b.put("{}")
		if o := b.next(); o.Conclusion != kind {
			t.Errorf("%d bytes: %v %q", n, o.Conclusion, o.Message)
		}
	}
}

func TestStderrIsLoggedWithItsTaskAndBounded(t *testing.T) {
	b := setup(t, func(cfg *exec.Config) { self(t, cfg, "floods stderr") })
	b.put("{}")
	o := b.next()
	if o.Conclusion != task.Failed || !strings.HasSuffix(o.Message, "\nit went wrong") || !strings.HasPrefix(o.Message, "…line 49") || len(o.Message) > 4010 {
		t.Errorf("%v, %d bytes: %.200s", o.Conclusion, len(o.Message), o.Message)
	}
	lines := strings.Count(b.log.String(), `msg="worker stderr"`)
	tagged := strings.Count(b.log.String(), "task_id=task-1 delivery=run.1 attempt=1 slot=0 pid=")
	if lines != 5002 || tagged != lines {
		t.Errorf("%d lines in the log, %d with their task", lines, tagged)
	}
}

func TestTheEnvironmentOfATask(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	b := setup(t, func(cfg *exec.Config) {
		self(t, cfg, "shows its environment")
		// A sidecar may itself be the process of a task: its tasks inherit none of this.
		cfg.Env = append(cfg.Env, "TRACEPARENT=ours", "SIDECAR_DEADLINE=1", "SIDECAR_TASK_ID=ours", "KEPT=yes")
	})
	show := func(o task.Outcome) map[string]string {
		got := map[string]string{}
		text := strings.Trim(string(o.Value), `"`)
		for line := range strings.SplitSeq(text, `\n`) {
			if words := strings.SplitN(line, " ", 3); words[1] == "true" {
				got[words[0]] = words[2]
			}
		}
		return got
	}
	b.put("{}")
	bare := show(b.next())
	if len(bare) != 6 || bare["SIDECAR_TASK_ID"] != "task-1" || bare["SIDECAR_SESSION_ID"] != "" || bare["SIDECAR_GROUP_ID"] != "" ||
		bare["SIDECAR_ATTEMPT"] != "1" || bare["KEPT"] != "yes" || !strings.HasPrefix(bare["SIDECAR_PROCESS_ID"], "test-0-") {
		t.Errorf("a task without anything: %v", bare)
	}
	before := time.Now()
	b.put("{}", func(x *task.Task) {
		x.Attempt = 2
		x.Info = task.Info{TaskID: "größer; $x", SessionID: "s", GroupID: "g", TraceID: trace, ParentSpanID: span, Timeout: time.Minute}
	})
	full := show(b.next())
	deadline, err := strconv.ParseInt(full["SIDECAR_DEADLINE"], 10, 64)
	if at := time.UnixMilli(deadline); err != nil || at.Before(before.Add(time.Minute-time.Second)) || at.After(time.Now().Add(time.Minute)) {
		t.Errorf("deadline %q", full["SIDECAR_DEADLINE"])
	}
	if full["SIDECAR_TASK_ID"] != "größer; $x" || full["SIDECAR_SESSION_ID"] != "s" || full["SIDECAR_GROUP_ID"] != "g" ||
		full["SIDECAR_ATTEMPT"] != "2" || full["TRACEPARENT"] != "00-"+trace+"-"+span+"-01" || full["SIDECAR_PROCESS_ID"] == bare["SIDECAR_PROCESS_ID"] {
		t.Errorf("a task with everything: %v", full)
	}
}

// TestARecordThatNoEnvironmentCanHold: the record fails; a returned one would be
// claimed again for ever.
func TestARecordThatNoEnvironmentCanHold(t *testing.T) {
	b := setup(t, func(cfg *exec.Config) { cfg.Command = []string{"/bin/true"} })
	for id, words := range map[string]string{"a\x00b": "NUL", strings.Repeat("x", 200_000): "200000 bytes"} {
		b.put("{}", func(x *task.Task) { x.Info.TaskID = id })
		if o := b.next(); o.Conclusion != task.Failed || !strings.Contains(o.Message, words) {
			t.Errorf("%v %q, want %q", o.Conclusion, o.Message, words)
		}
	}
	b.put("{}")
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Errorf("the next one: %v %s", o.Conclusion, o.Message)
	}
}

func TestADeadline(t *testing.T) {
	for _, c := range []struct {
		role string
		own  bool // the record's own timeout
	}{{"ignores SIGTERM", false}, {"ends with 0 on SIGTERM", true}} {
		t.Run(c.role, func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) {
				self(t, cfg, c.role)
				cfg.KillGrace, cfg.TaskTimeout = 200*time.Millisecond, time.Second
				if c.own {
					cfg.TaskTimeout = time.Hour
				}
			})
			b.put("{}", func(x *task.Task) {
				if c.own {
					x.Info.Timeout = time.Second
				}
			})
			pid := 0 // not from its mark: on a busy machine its start may take the whole second
			wait.Until(t, "its process", func() bool {
				for _, r := range b.stage.Slots() {
					pid = r.Pid
				}
				return pid != 0
			})
			o := b.next()
			if o.Conclusion != task.Failed || o.Reason != "timeout" || o.Message != "Task execution timeout: it ran longer than 1s" {
				t.Errorf("%v %s %q", o.Conclusion, o.Reason, o.Message)
			}
			gone(t, pid)
		})
	}
}

// TestGrandchildren: a grandchild in the process group dies with its parent, one
// outside of it does not delay the task, and the output of the task itself is read
// completely.
func TestGrandchildren(t *testing.T) {
	for role, want := range map[string]string{
		"leaves a grandchild":                   `"left one behind"`,
		"leaves a grandchild outside its group": `"\"before\"\n`,
		"a quiet grandchild outside its group":  `"` + strings.Repeat("x", 60_000) + `"`,
	} {
		t.Run(role, func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) {
				self(t, cfg, role)
				cfg.MaxOutput = 16 << 20
			})
			b.put("{}")
			pid := b.marked()
			marked, clock := time.Now(), machine.Watch(t)
			defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
			o := b.next()
			// The output of the grandchild outside may begin after the end of the task.
			quiet := role == "leaves a grandchild outside its group" && string(o.Value) == `"before"`
			if o.Conclusion != task.Succeeded || !quiet && !bytes.HasPrefix(o.Value, []byte(want)) {
				t.Errorf("%v %.60q %s", o.Conclusion, o.Value, o.Message)
			}
			if d := clock.Since(marked); d > 5*time.Second {
				t.Errorf("the task ended %v after its grandchild began", d)
			}
			if role == "leaves a grandchild" {
				gone(t, pid)
			}
			if role == "a quiet grandchild outside its group" && !strings.Contains(b.log.String(), "a last line") {
				t.Error("its last line on stderr is not in the log")
			}
		})
	}
}

// TestAStop: after soft running tasks finish and none starts; after hard they are ended
// and returned, whatever their exit status.
func TestAStop(t *testing.T) {
	t.Run("soft", func(t *testing.T) {
		gate := filepath.Join(t.TempDir(), "gate")
		b := setup(t, func(cfg *exec.Config) {
			cfg.Command = []string{"sh", "-c", `echo $$ >` + gate + `.pid; until [ -e ` + gate + ` ]; do sleep 0.01; done; echo finished`}
		})
		b.put("{}")
		b.put("{}") // waits
		wait.Until(t, "the first to start", func() bool { _, err := os.Stat(gate + ".pid"); return err == nil })
		b.queue.Halt()
		b.queue.Close()
		b.stop()
		if o := b.next(); o.Conclusion != task.Returned {
			t.Errorf("what had not started: %v", o.Conclusion)
		}
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if o := b.next(); o.Conclusion != task.Succeeded || string(o.Value) != `"finished"` {
			t.Errorf("what ran: %v %q", o.Conclusion, o.Value)
		}
		if err := b.wait(); err != nil {
			t.Error(err)
		}
	})
	for _, role := range []string{"ignores SIGTERM", "ends with 0 on SIGTERM"} {
		t.Run("hard, "+role, func(t *testing.T) {
			b := setup(t, func(cfg *exec.Config) {
				self(t, cfg, role)
				cfg.KillGrace = time.Minute // the hard end does not wait for it
			})
			b.put("{}")
			pid := b.marked()
			began, clock := time.Now(), machine.Watch(t)
			b.halt()
			if o := b.next(); o.Conclusion != task.Returned || o.Message != "cut short" {
				t.Errorf("%v %q", o.Conclusion, o.Message)
			}
			if d := clock.Since(began); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
			gone(t, pid)
		})
	}
}

// TestNothingStartsAfterTheSignal: a task that was acquired at the same moment is
// returned.
func TestNothingStartsAfterTheSignal(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	const slots = 32
	b := setup(t, func(cfg *exec.Config) {
		cfg.Command, cfg.Slots = []string{"sh", "-c", "echo x >>" + ran}, slots
	})
	wait.Until(t, "every slot", func() bool { return b.stage.Up() == slots })
	ts := make([]task.Task, 10*slots)
	for i := range ts {
		ts[i] = task.Task{Delivery: fmt.Sprint("run.", i), Seq: int64(i), Attempt: 1, Record: []byte("{}"), Info: task.Info{TaskID: "t"}}
	}
	b.queue.Offer(ts)
	b.queue.Halt()
	halted := time.Now()
	b.queue.Close()
	b.stop()
	if err := b.wait(); err != nil {
		t.Error(err)
	}
	back, done := 0, 0
	for range ts {
		switch o := b.next(); o.Conclusion {
		case task.Returned:
			back++
		case task.Succeeded:
			done++
		default:
			t.Errorf("%v %s", o.Conclusion, o.Message)
		}
	}
	text, _ := os.ReadFile(ran)
	if n := bytes.Count(text, []byte("x")); n != done || done > slots || back+done != len(ts) {
		t.Errorf("%d ran, %d are done, %d went back, %v after the halt", n, done, back, time.Since(halted))
	}
}

func TestEvict(t *testing.T) {
	b := setup(t, func(cfg *exec.Config) {
		self(t, cfg, "ends with 0 on SIGTERM")
		cfg.Slots = 2
	})
	b.put("{}")
	pid := b.marked()
	if s := b.stage.Slots(); len(s) != 1 || s[0].Pid != pid || s[0].Tasks[0].Delivery != "run.1" {
		t.Errorf("slots %+v", s)
	}
	b.stage.Evict("other")
	if syscall.Kill(pid, 0) != nil {
		t.Fatal("another run's end ended it")
	}
	b.stage.Evict("run")
	if len(b.stage.Slots()) != 0 {
		t.Error("it still runs")
	}
	gone(t, pid)
	if o := b.next(); o.Conclusion != task.Returned || o.Message != "its lease was lost" {
		t.Errorf("%v %q", o.Conclusion, o.Message)
	}
	b.put("{}") // offered before the eviction
	if o := b.next(); o.Conclusion != task.Returned {
		t.Errorf("a task of the evicted run was started: %v", o.Conclusion)
	}
	// A slot is free a moment after its outcome is published.
	wait.Until(t, "free slots", func() bool { return b.queue.Counts() == dispatch.Counts{Capacity: 2} })
}

// TestACommandThatCannotBeRun: the stage ends with a line that says what is wrong,
// before the first claim if that is visible by then.
func TestACommandThatCannotBeRun(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, command, dir string
		claims             bool // visible with the first task only
		want               string
	}{
		{"absent", dir + "/absent", "", false, "does not exist"},
		{"not on PATH", "no-such-command-anywhere", "", false, "not found on PATH"},
		{"not executable", file("text", "#!/bin/sh\n", 0o600), "", false, "permission denied"},
		{"a folder", dir, "", false, "directory"},
		{"relative to another folder", "./text", "/", false, "does not exist"},
		{"no #! line", file("bare", "echo hello\n", 0o700), "", true, "a script needs a #! line"},
		{"no interpreter", file("lost", "#!/no/such/sh\n", 0o700), "", false, `its interpreter "/no/such/sh" does not exist`},
		{"line ends of Windows", file("crlf", "#!/bin/sh\r\necho 1\r\n", 0o700), "", false, "line ends of Windows (CRLF)"},
		{"no folder", "sh", dir + "/nowhere", true, `the working directory "` + dir + `/nowhere" (SIDECAR_WORKER_DIR) does not exist`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bundle{t: t, outcomes: make(chan task.Outcome, 10), log: &testlog.Buffer{}, ended: make(chan error, 1)}
			cfg := config(b.log)
			cfg.Command, cfg.Dir, cfg.StartRetries = []string{c.command}, c.dir, 2
			b.run(cfg)
			for range 3 {
				if c.claims {
					b.put("{}")
					if o := b.next(); o.Conclusion != task.Returned {
						t.Errorf("%v %s", o.Conclusion, o.Message)
					}
				}
			}
			err := b.wait()
			failure, ok := errors.AsType[*local.StartError](err)
			if !ok || failure.Attempts != 3 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.command) {
				t.Errorf("ended with %v, want %q", err, c.want)
			}
			if n := b.queue.Counts(); n != (dispatch.Counts{}) {
				t.Errorf("%+v", n)
			}
		})
	}
}

func TestACommandRelativeToItsFolder(t *testing.T) {
	path := script(t, "#!/bin/sh\npwd\n")
	b := setup(t, func(cfg *exec.Config) { cfg.Command, cfg.Dir = []string{"./worker.sh"}, filepath.Dir(path) })
	b.put("{}")
	if o := b.next(); o.Conclusion != task.Succeeded || string(o.Value) != strconv.Quote(filepath.Dir(path)) {
		t.Errorf("%v %q %s", o.Conclusion, o.Value, o.Message)
	}
}

// TestAStartThatFailsForAReasonThatPasses: such failures do not end the stage, however
// many there are, and use no attempt: a deployment replaces the program, or the machine
// is full.
func TestAStartThatFailsForAReasonThatPasses(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error  // of the start, or
		script string // the command that is started instead
	}{
		{"text file busy", &os.PathError{Op: "fork/exec", Path: "w", Err: syscall.ETXTBSY}, ""},
		{"no process left", syscall.EAGAIN, ""},
		{"no memory", syscall.ENOMEM, ""},
		{"no descriptor", fmt.Errorf("no pipe for the worker: %w", syscall.EMFILE), ""},
		{"the program of env is busy", nil, "echo 'env: ‘w’: Text file busy' >&2; exit 126"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const failures = 8
			spawner := local.NewSpawner()
			t.Cleanup(spawner.Stop)
			var starts atomic.Int64
			b := setup(t, func(cfg *exec.Config) {
				cfg.Command, cfg.StartRetries, cfg.Slots = []string{"sh", "-c", "echo 1"}, 0, 1
				cfg.Restart = backoff.Policy{Min: time.Millisecond, Max: time.Millisecond}
				cfg.Start = func(cmd *osexec.Cmd) (local.Process, error) {
					switch {
					case starts.Add(1) > failures:
						return spawner.Start(cmd)
					case c.err != nil:
						return nil, c.err
					}
					busy := *cmd
					busy.Args = []string{"sh", "-c", c.script}
					return spawner.Start(&busy)
				}
			})
			for range failures {
				b.put("{}")
				if o := b.next(); o.Conclusion != task.Returned {
					t.Fatalf("%v %s", o.Conclusion, o.Message)
				}
			}
			b.put("{}")
			if o := b.next(); o.Conclusion != task.Succeeded {
				t.Errorf("%v %s", o.Conclusion, o.Message)
			}
		})
	}
}

// TestACommandThatVanishes: tasks are returned without an attempt used, and run when
// the command exists again.
func TestACommandThatVanishes(t *testing.T) {
	path := script(t, "#!/bin/sh\necho 1\n")
	b := setup(t, func(cfg *exec.Config) {
		cfg.Command = []string{path}
		cfg.Restart = backoff.Policy{Min: 20 * time.Millisecond, Max: 20 * time.Millisecond}
	})
	b.put("{}")
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Fatalf("%v %s", o.Conclusion, o.Message)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	for range 3 { // more than StartRetries, since the command has started once
		b.put("{}")
		if o := b.next(); o.Conclusion != task.Returned {
			t.Fatalf("%v %s", o.Conclusion, o.Message)
		}
	}
	if n := strings.Count(b.log.String(), "process cannot be started: tasks"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	b.put("{}")
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Errorf("%v %s", o.Conclusion, o.Message)
	}
}

// TestManyAtOnce: every task has one outcome and the counters return to zero.
func TestManyAtOnce(t *testing.T) {
	const slots, n = 8, 200
	b := setup(t, func(cfg *exec.Config) {
		cfg.Command, cfg.Slots = []string{"sh", "-c", `read r; case $r in *7*) exit 1;; *) echo "$r";; esac`}, slots
	})
	wait.Until(t, "every slot", func() bool { return b.stage.Up() == slots })
	for i := range n {
		b.put(strconv.Itoa(i))
	}
	seen := map[string]bool{}
	for range n {
		o := b.next()
		i := string(o.Task.Record)
		want := task.Succeeded
		if strings.Contains(i, "7") {
			want = task.Failed
		}
		if o.Conclusion != want || seen[i] || (o.Conclusion == task.Succeeded && string(o.Value) != i) {
			t.Errorf("%s: %v %q", i, o.Conclusion, o.Value)
		}
		seen[i] = true
	}
	wait.Until(t, "free slots", func() bool { return b.queue.Counts() == dispatch.Counts{Capacity: slots} })
	if err := func() error { b.queue.Close(); b.stop(); return b.wait() }(); err != nil {
		t.Error(err)
	}
}
