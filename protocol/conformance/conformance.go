package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

// Worker says how to start a worker under test, and what it can be asked to do.
type Worker struct {
	// Command is the program and its arguments.
	Command []string
	// Env is its environment; nil is that of this process. The kit adds
	// SIDECAR_PROCESS_ID (P19).
	Env []string
	// Dir is its working directory; empty is that of this process.
	Dir string
	// Records are what it can be asked to do.
	Records Records
	// StartTimeout is how long it may take to answer initialize; 10 s if 0.
	StartTimeout time.Duration
	// Patience is how long any other answer may take; 10 s if 0. A slow record
	// must end within it.
	Patience time.Duration
	// Parallel is how many workers are tested at a time; as many as there are
	// processors, 4 at most, if 0.
	Parallel int
	// Log, if set, gets every message of every dialogue as it passes.
	Log io.Writer
}

// Records are task records, each one JSON object, that a worker can be given.
// Those that are missing leave checks undone, and the report says which.
type Records struct {
	// Quick is a record of a task that succeeds within a second. Without it the
	// kit sends one that no worker knows.
	Quick json.RawMessage
	// Slow is a record of a task that takes two seconds or more, and then succeeds
	// or fails by itself.
	Slow json.RawMessage
	// Failing is a record of a task that fails.
	Failing json.RawMessage
	// Retryable is a record of a task that fails and may be tried again.
	Retryable json.RawMessage
	// Large is a record of a task whose value is longer than 4096 bytes.
	Large json.RawMessage
	// Exact is a record of a task whose value JSON numbers cannot hold: NaN, say,
	// or an integer beyond 2^53.
	Exact json.RawMessage
}

// Run tests a worker as subtests of t, one a check.
func Run(t *testing.T, argv ...string) {
	t.Helper()
	Worker{Command: argv}.Run(t)
}

// Run tests the worker as subtests of t, one a check. What could not be checked
// is no subtest and is listed in t's log.
func (w Worker) Run(t *testing.T) {
	t.Helper()
	report, err := w.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report.Worker)
	for _, r := range report.Results {
		if r.Status == NotChecked {
			t.Logf("%s: not checked: %s", r.Check, r.Seen)
			continue
		}
		t.Run(r.Check, func(t *testing.T) {
			if r.Status == Failed {
				t.Errorf("%s: %s\nseen: %s\n%s", r.ruleList(), r.Requires, r.Seen, r.Detail)
			}
		})
	}
}

// Check tests the worker and reports what every check has shown. The error is
// about the question, not the worker: no command, or a record that is none. It
// takes some seconds; the end of ctx ends it, and all that it started.
func (w Worker) Check(ctx context.Context) (*Report, error) {
	if len(w.Command) == 0 || w.Command[0] == "" {
		return nil, fmt.Errorf("no command to test")
	}
	if err := w.Records.check(); err != nil {
		return nil, err
	}
	if w.StartTimeout <= 0 {
		w.StartTimeout = 10 * time.Second
	}
	if w.Patience <= 0 {
		w.Patience = 10 * time.Second
	}
	if w.Parallel <= 0 {
		w.Parallel = min(4, runtime.GOMAXPROCS(0))
	}
	dialogues, err := transcripts()
	if err != nil {
		return nil, err
	}
	k := &kit{Worker: w, judge: newJudge()}
	return k.run(ctx, dialogues)
}

func (r Records) check() error {
	for _, record := range []struct {
		name string
		raw  json.RawMessage
	}{
		{"quick", r.Quick},
		{"slow", r.Slow},
		{"failing", r.Failing},
		{"retryable", r.Retryable},
		{"large", r.Large},
		{"exact", r.Exact},
	} {
		var members map[string]json.RawMessage
		if record.raw != nil && json.Unmarshal(record.raw, &members) != nil {
			return fmt.Errorf("the %s record is not a JSON object: %s", record.name, clip(record.raw))
		}
	}
	return nil
}

// plain is a record in Graflow's form of a task that no worker knows.
const plain = `{"task_id":"no_such_task_77","session_id":"conformance","graph_hash":"0000000000000000","trace_id":"0af7651916cd43dd8448eb211c80319c","created_at":1732335600.25,"group_id":null,"parent_span_id":null}`

// named gives a record by its name in the transcripts, nil if there is none.
func (r Records) named(name string) json.RawMessage {
	switch name {
	case "plain":
		return json.RawMessage(plain)
	case "quick":
		if r.Quick == nil {
			return json.RawMessage(plain)
		}
		return r.Quick
	case "succeeding":
		return r.Quick
	case "slow":
		return r.Slow
	case "failing":
		return r.Failing
	case "retryable":
		return r.Retryable
	case "large":
		return r.Large
	case "exact":
		return r.Exact
	default:
		return nil
	}
}

// how tells which record a check lacks, and how to give it.
var how = map[string]string{
	"succeeding": "needs a record of a task that succeeds: --record (Records.Quick)",
	"slow":       "needs a record of a task that takes two seconds or more: --slow-record (Records.Slow)",
	"failing":    "needs a record of a task that fails: --failing-record (Records.Failing)",
	"retryable":  "needs a record of a task that fails and asks for another try: --retryable-record (Records.Retryable)",
	"large":      "needs a record of a task whose value is longer than 4096 bytes: --large-record (Records.Large)",
	"exact":      "needs a record of a task whose value is NaN or an integer beyond 2^53: --exact-record (Records.Exact)",
}
