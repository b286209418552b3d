//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// exec starts a sidecar that runs a command for each task.
func (b *bench) exec(command []string, env ...string) *worker {
	b.t.Helper()
	return b.sidecar(setup{args: append([]string{"--mode", "exec", "--"}, command...), env: env})
}

// shell writes a script that is a worker of mode exec.
func shell(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Programs that know nothing of a sidecar are workers.
func TestExecProgramsOfTheSystem(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	for _, c := range []struct {
		command []string
		result  string // "": no key
	}{
		{[]string{"jq", "-c", ".payload | map(. * 2)"}, "[2,4,6]"},
		{[]string{"/bin/true"}, ""},
		{[]string{"sh", "-c", `echo "$SIDECAR_TASK_ID in $SIDECAR_SESSION_ID"`}, `"a in SESSION"`},
		{[]string{shell(t, `wc -c >/dev/null; printf 'größer "so"\n'`)}, `"größer \"so\""`},
	} {
		t.Run(filepath.Base(c.command[0]), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.exec(c.command)
			b.expect("g", 1)
			b.push("a", b.prefix, map[string]any{"group_id": "g", "payload": []int{1, 2, 3}})
			done := b.completion("g", "a")
			equal(t, "success", done.Success, true)
			got, _ := b.redis.Get(t.Context(), "graflow:channel:"+b.prefix+":a.__result__").Result()
			equal(t, "result", got, strings.ReplaceAll(c.result, "SESSION", b.prefix))
		})
	}
}

// A list of any name is the queue, for the sidecar and its commands: nothing is in the list
// of the prefix. What a kill leaves goes back to it.
func TestExecQueueOfAnyName(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	queue := "jobs of " + b.prefix
	t.Cleanup(func() { b.redis.Del(context.Background(), queue) })
	env := []string{"SIDECAR_QUEUE_KEY=" + queue}
	mark := filepath.Join(t.TempDir(), "begun")
	first := b.exec([]string{"sh", "-c", "touch " + mark + "; exec sleep 600"}, env...)
	if err := b.redis.RPush(t.Context(), queue, `{"task_id":"daily"}`).Err(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the task", func() bool { _, err := os.Stat(mark); return err == nil })
	first.signal(syscall.SIGKILL)
	first.wait()
	b.exec([]string{"sh", "-c", "echo $SIDECAR_ATTEMPT"}, env...)
	wait.Until(t, "the result", func() bool { return b.redis.Get(t.Context(), b.key("sidecar", "result", "daily")).Val() == "2" })
	binary, err := sidecarBinary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := output(t.Context(), "env", append(b.env(env...), binary, "enqueue", "--task", "weekly", "--wait", "-o", "json")...)
	if err != nil || !strings.Contains(out, `"result": 1`) {
		t.Errorf("enqueue: %v\n%s", err, out)
	}
	if n := b.redis.Exists(t.Context(), b.key("queue")).Val(); n != 0 {
		t.Error("there is a list of the prefix")
	}
}

// The result of a record without a session is under the prefix, for as long as the
// setting says.
func TestExecResultWithoutASession(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	for _, c := range []struct {
		env []string
		ttl time.Duration // below 0: no end
	}{{nil, 24 * time.Hour}, {[]string{"SIDECAR_RESULT_TTL=90m"}, 90 * time.Minute}, {[]string{"SIDECAR_RESULT_TTL=0"}, -1}} {
		t.Run(strings.Join(c.env, ""), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.exec([]string{"sh", "-c", "echo 5"}, c.env...)
			if err := b.redis.RPush(t.Context(), b.key("queue"), `{"task_id":"daily"}`).Err(); err != nil {
				t.Fatal(err)
			}
			key := b.key("sidecar", "result", "daily")
			wait.Until(t, "the result", func() bool { return b.redis.Get(t.Context(), key).Val() == "5" })
			left := b.redis.PTTL(t.Context(), key).Val()
			if c.ttl < 0 && left >= 0 || c.ttl > 0 && (left > c.ttl || left < c.ttl-10*time.Minute) {
				t.Errorf("it expires in %v, want %v", left, c.ttl)
			}
			if n := b.redis.Exists(t.Context(), "graflow:channel::daily.__result__").Val(); n != 0 {
				t.Error("there is a result without a prefix too")
			}
		})
	}
}

// A Graflow producer cannot tell that a script did its tasks: their results and
// failures arrive at its barrier.
func TestExecServesAGraflowProducer(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	b.exec([]string{shell(t, `
record=$(cat)
case $record in *'"task_id"'*) ;; *) echo 'no record on stdin' >&2; exit 1 ;; esac
case $SIDECAR_TASK_ID in
  sum) echo '{"sum": 42, "big": 9007199254740993}' ;;
  text) echo hello ;;
  nothing) ;;
  later) [ "$SIDECAR_ATTEMPT" = 2 ] || { echo 'not now' >&2; exit 75; }; echo "[$SIDECAR_ATTEMPT]" ;;
  broken) echo 'looking for the file' >&2; echo 'no such file: /x' >&2; exit 3 ;;
  wordless) exit 4 ;;
esac`)}, "SIDECAR_RETRY_BASE=100ms")
	var got struct {
		Failed  map[string]string
		Results map[string]any
	}
	b.report(&got, "script.py")
	equal(t, "results", got.Results, map[string]any{
		"sum": map[string]any{"sum": 42.0, "big": 9007199254740993.0}, "text": "hello", "nothing": nil, "later": []any{2.0},
	})
	equal(t, "failures", got.Failed, map[string]string{
		"broken": "looking for the file\nno such file: /x", "wordless": "exited with status 4",
	})
}

// A program that is killed costs an attempt each time; it ends among the dead
// letters and its group hears of it, while its neighbours are served.
func TestExecCrashes(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	log := filepath.Join(t.TempDir(), "log")
	b.exec([]string{shell(t, `
echo "$SIDECAR_TASK_ID $SIDECAR_ATTEMPT" >>`+log+`
[ "$SIDECAR_TASK_ID" = poison ] || exit 0
echo 'about to crash' >&2
kill -SEGV $$`)})
	const n = 20
	b.expect("g", n+1)
	b.push("poison", b.prefix, map[string]any{"group_id": "g"})
	for i := range n {
		b.push(fmt.Sprint("good_", i), b.prefix, map[string]any{"group_id": "g"})
	}
	c := b.completion("g", "poison")
	if c.Success || !strings.Contains(c.Error, "SIGSEGV") {
		t.Errorf("poison: %+v", c)
	}
	for i := range n {
		equal(t, "a good one's success", b.completion("g", fmt.Sprint("good_", i)).Success, true)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var poison []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "poison") {
			poison = append(poison, strings.TrimSpace(line))
		}
	}
	equal(t, "its runs", poison, []string{"poison 1", "poison 2", "poison 3"})
	equal(t, "all runs", strings.Count(string(text), "\n"), n+3)
	letters := b.redis.ZRange(t.Context(), b.key("sidecar", "dead"), 0, -1).Val()
	if len(letters) != 1 {
		t.Fatalf("dead letters: %v", letters)
	}
	letter := b.key("sidecar", "dead", letters[0])
	equal(t, "its last words", b.redis.HGet(t.Context(), letter, "stderr").Val(), "about to crash")
	b.redis.Del(t.Context(), letter) // its name has the run's, which is to leave no other key
}

// A stop finishes what runs; a second signal cuts it short, and it is on the
// queue again at no cost. Of either no process is left.
func TestExecStops(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	for _, signals := range []int{1, 2} {
		t.Run(fmt.Sprint(signals), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			gate := filepath.Join(t.TempDir(), "gate")
			w := b.exec([]string{shell(t, `trap '' TERM
: >"`+gate+`.$SIDECAR_TASK_ID"
until [ -e "`+gate+`" ]; do sleep 0.02; done
echo "$SIDECAR_ATTEMPT"`)})
			var records []string
			for _, id := range []string{"a", "b", "c"} {
				records = append(records, b.push(id, b.prefix, nil))
			}
			wait.Until(b.t, "two tasks running", func() bool {
				_, a := os.Stat(gate + ".a")
				_, b := os.Stat(gate + ".b")
				return a == nil && b == nil
			})
			w.signal(syscall.SIGTERM)
			wait.Until(b.t, "the third on the queue", func() bool { return len(b.queue()) == 1 })
			if signals == 2 {
				w.signal(syscall.SIGTERM)
			} else if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			equal(t, "exit status", w.wait(), 0)
			w.assertGone()
			if signals == 1 {
				equal(t, "the queue", b.queue(), records[2:])
				equal(t, "results", []string{b.result(b.prefix, "a"), b.result(b.prefix, "b")}, []string{"1", "1"})
				return
			}
			left := b.queue()
			equal(t, "left on the queue", len(left), 3)
			equal(t, "what had not started", left[2], records[2])
			equal(t, "attempts counted", b.redis.Exists(t.Context(), b.key("sidecar", "attempts")).Val(), int64(0))
		})
	}
}

// A task past its deadline fails with its process group, in words that say so,
// and knew its deadline.
func TestExecDeadline(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	w := b.exec([]string{shell(t, `
left=$((SIDECAR_DEADLINE / 1000 - $(date +%s)))
if [ "$SIDECAR_TASK_ID" = quick ]; then echo "$left"; exit; fi
trap '' TERM
sleep 600 &
sleep 600`)}, "SIDECAR_KILL_GRACE=300ms", "SIDECAR_TASK_TIMEOUT=1h")
	b.expect("g", 2)
	b.push("slow", b.prefix, map[string]any{"group_id": "g", "timeout": 1})
	b.push("quick", b.prefix, map[string]any{"group_id": "g"})
	if left, err := strconv.Atoi(b.result(b.prefix, "quick")); err != nil || left < 3590 || left > 3601 {
		t.Errorf("%d s left of an hour", left)
	}
	c := b.completion("g", "slow")
	if c.Success || c.Error != "Task execution timeout: it ran longer than 1s" {
		t.Errorf("%+v", c)
	}
	for _, p := range proc.Marked(t, w.mark) {
		if strings.Contains(p, "sleep 600") {
			t.Errorf("left over: %s", p)
		}
	}
}

// What cannot be run is said before anything is claimed.
func TestExecCommandThatCannotBeRun(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has no commands")
	bare := filepath.Join(t.TempDir(), "bare")
	if err := os.WriteFile(bare, []byte("echo hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ command, words string }{
		"absent":         {"/nonexistent/worker", "does not exist"},
		"not executable": {"/etc/passwd", "permission denied"},
		"not on PATH":    {"no-such-command-anywhere", "not found on PATH"},
		"no #! line":     {bare, "needs a #! line"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var records []string
			for _, id := range []string{"a", "b", "c"} {
				records = append(records, b.push(id, "s", nil))
			}
			w := b.exec([]string{c.command}, "MAX_CONCURRENT_TASKS=1")
			equal(t, "exit status", w.wait(), 70)
			equal(t, "the queue", b.queue(), records)
			w.assertGone()
			last := w.lines()
			if text := last[len(last)-1].text; !strings.HasPrefix(text, "sidecar: ") || !strings.Contains(text, c.words) || !strings.Contains(text, c.command) {
				t.Errorf("the last line is %s", text)
			}
		})
	}
}
