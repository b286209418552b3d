package exec

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// perTask are the variables that a process gets about its task. Those that a
// task lacks must not be left standing from our own environment.
var perTask = []string{
	"SIDECAR_TASK_ID", "SIDECAR_SESSION_ID", "SIDECAR_GROUP_ID", "SIDECAR_ATTEMPT", "SIDECAR_DEADLINE",
	"SIDECAR_PROCESS_ID", "TRACEPARENT",
}

// without returns the environment without the names.
func without(env, names []string) []string {
	return slices.Clip(slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	}))
}

// longestVariable keeps what a record says well below what the kernel takes
// (128 KiB a string on Linux): a start that fails for it would fail for ever.
const longestVariable = 32 << 10

// environ is the environment of a task's process, or what is wrong with the
// record that no environment can hold.
func (s *Stage) environ(t *task.Task, slot int, began time.Time, limit time.Duration) (env []string, problem string) {
	env = make([]string, 0, len(s.env)+len(perTask))
	env = append(env, s.env...)
	for _, v := range [...]struct{ name, field, value string }{
		{"SIDECAR_TASK_ID", "task_id", t.Info.TaskID},
		{"SIDECAR_SESSION_ID", "session_id", t.Info.SessionID},
		{"SIDECAR_GROUP_ID", "group_id", t.Info.GroupID},
	} {
		switch {
		case strings.IndexByte(v.value, 0) >= 0:
			return nil, fmt.Sprintf("the record's %s holds a NUL, which no environment variable can", v.field)
		case len(v.value) > longestVariable:
			return nil, fmt.Sprintf("the record's %s has %d bytes, and an environment variable may have %d", v.field, len(v.value), longestVariable)
		}
		env = append(env, v.name+"="+v.value)
	}
	env = append(env,
		"SIDECAR_ATTEMPT="+strconv.Itoa(t.Attempt),
		"SIDECAR_PROCESS_ID="+s.cfg.WorkerID+"-"+strconv.Itoa(slot)+"-"+rand.Text()[:10])
	if limit > 0 {
		env = append(env, "SIDECAR_DEADLINE="+strconv.FormatInt(began.Add(limit).UnixMilli(), 10))
	}
	if parent := t.Traceparent(); parent != "" {
		env = append(env, "TRACEPARENT="+parent)
	}
	return env, ""
}

// longestMessage bounds what a producer is told.
const longestMessage = 4000

// longestOther bounds the lines before the last one in there.
const longestOther = 256

// colours are the escape sequences of terminals.
var colours = regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]`)

// errorMessage makes an error message of the last lines on stderr, or takes the other
// one where there are none.
func errorMessage(stderr, otherwise string) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, colours.ReplaceAllLiteralString(stderr, ""))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines[:len(lines)-1] { // a long one would leave no room for the others
		lines[i] = workerlog.Cut(line, longestOther)
	}
	text = strings.Join(lines, "\n")
	if len(text) > longestMessage {
		text = text[len(text)-longestMessage:]
		if _, rest, ok := strings.Cut(text, "\n"); ok && rest != "" {
			text = rest // whole lines
		}
		text = "…" + strings.ToValidUTF8(text, "")
	}
	if text == "" {
		return otherwise
	}
	return text
}
