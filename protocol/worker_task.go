package protocol

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// progressEvery is the least time between two $/progress of one task.
const progressEvery = 100 * time.Millisecond

// Task is one delivery of one record to a Handler. Its fields belong to the
// handler; its methods may be called from any goroutine, and do nothing once
// the task has been answered, or for a Task that a test has made itself.
type Task struct {
	// Delivery names this delivery; a record that is delivered again has
	// another one.
	Delivery string
	// Record is the record's JSON text.
	Record json.RawMessage
	// Attempt is 1 for a record that no crash has lost before.
	Attempt int
	// Deadline is when the task must have ended; zero if there is none. The
	// handler's context carries it too.
	Deadline time.Time
	// Traceparent is the W3C trace context; empty if there is none.
	Traceparent string

	inputs   []Input
	server   *server
	ended    atomic.Bool
	progress atomic.Int64 // when the last $/progress went, in ns since 1970

	waitsMu sync.Mutex
	waits   int // goroutines that only wait, see Waiting
}

// Decode unmarshals the record into v, as encoding/json does.
func (t *Task) Decode(v any) error {
	if err := json.Unmarshal(t.Record, v); err != nil {
		return fmt.Errorf("decode the record: %w", err)
	}
	return nil
}

// Progress tells the sidecar how far the task is, from 0 to 1, and what it is
// at; both are for people, and any call shows that the task is alive (P42).
// Calls within a tenth of a second of the last one are dropped, other than of a
// fraction of 1, so that it may stand in a tight loop.
func (t *Task) Progress(fraction float64, message string) {
	if t.silent() || math.IsNaN(fraction) {
		return
	}
	fraction = min(max(fraction, 0), 1)
	now, last := time.Now().UnixNano(), t.progress.Load()
	if fraction < 1 && last != 0 && now-last < int64(progressEvery) || !t.progress.CompareAndSwap(last, now) {
		return
	}
	t.server.notify(MethodProgress, ProgressParams{Delivery: t.Delivery, Fraction: fraction, Message: message})
}

// Log adds a line to the sidecar's log, marked with this task (P43). fields are
// alternating keys and values, or slog.Attr, as for slog.Log. What is printed to
// stdout or stderr reaches the log too, but without level or fields.
func (t *Task) Log(level slog.Level, message string, fields ...any) {
	if t.silent() {
		return
	}
	t.server.notify(MethodLog, LogParams{
		Level:    levelName(level),
		Message:  message,
		Delivery: t.Delivery,
		Fields:   fieldMap(fields),
	})
}

// Waiting tells the sidecar that from now on the task only waits for other
// tasks, until the function that it returns is called (P44); the sidecar may
// run another task in an extra slot meanwhile. Call it around a wait that depends on tasks
// which need a slot themselves, or a sidecar with few slots may never run them:
//
//	defer t.Waiting()()
//	<-groupIsDone
//
// Several goroutines of a task may wait at the same time: the sidecar hears of
// the first and of the last.
func (t *Task) Waiting() (resumed func()) {
	t.waiting(1)
	return sync.OnceFunc(func() { t.waiting(-1) })
}

func (t *Task) waiting(n int) {
	t.waitsMu.Lock()
	defer t.waitsMu.Unlock()
	before := t.waits
	t.waits += n
	method := MethodWaiting
	if n < 0 {
		method = MethodResumed
	}
	if (before == 0) != (t.waits == 0) && !t.silent() {
		t.server.notify(method, DeliveryParams{Delivery: t.Delivery})
	}
}

// silent reports whether messages about the task are dropped: without a sidecar, and
// after its answer (P27).
func (t *Task) silent() bool { return t.server == nil || t.ended.Load() }

func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// fieldMap makes an object of slog arguments. A value that JSON cannot hold is
// written as fmt prints it.
func fieldMap(args []any) map[string]any {
	if len(args) == 0 {
		return nil
	}
	fields := make(map[string]any, len(args)/2)
	for _, a := range slog.Group("", args...).Value.Group() {
		v := a.Value.Resolve().Any()
		if err, ok := v.(error); ok {
			v = err.Error()
		} else if raw, err := json.Marshal(v); err != nil {
			v = fmt.Sprint(v)
		} else {
			v = json.RawMessage(raw)
		}
		fields[strings.ToValidUTF8(a.Key, "\uFFFD")] = v
	}
	return fields
}
