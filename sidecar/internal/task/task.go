// Package task defines the values that travel through the pipeline: a claimed record
// (Task) and its result (Outcome). It imports only the standard library and jsonscan, so
// that every stage can use it without another stage, Redis or the worker protocol.
package task

import (
	"strconv"
	"strings"
	"time"
)

// Task is one delivery of one record. The claim stage creates it; it is immutable
// afterwards, and any goroutine may read it.
type Task struct {
	// Delivery identifies this delivery of the record: the run id, a dot and
	// the claim sequence number. A record that is delivered again gets a new one.
	Delivery string
	// Seq is the claim sequence number. Records are requeued in descending Seq, which
	// restores their order.
	Seq int64
	// Record is the record as it was in the queue, byte for byte. It must not be
	// modified. A record that no worker receives may be cut: see Size.
	Record []byte
	// Length is the number of bytes of the whole record. 0 means len(Record).
	Length int
	// Info holds the fields of the record that the sidecar uses.
	Info Info
	// Attempt is 1 plus the number of lost deliveries of the record.
	Attempt int
	// Counted reports that Redis stores the number of lost deliveries of the record.
	// The end of the record has to clear it.
	Counted bool
	// Kind is the index of the kind of worker that runs the task; 0 if there is one
	// kind. KindUnknown and KindNone are no index. The JSON names of Task and Outcome
	// are the format of spool files.
	Kind int `json:"Route"`
	// Isolation is IsolateNone except for the last attempt of a record whose loss other
	// tasks shared: if the record kills its process, it must kill no other task again.
	Isolation Isolation `json:"Lone"`
	// ClaimedAt is the time at which the reply of the claim was read.
	ClaimedAt time.Time
	// Span is nil without tracing. A spooled task has no span.
	Span Span `json:"-"`
}

// Values of Task.Kind that are no index of a kind of worker.
const (
	// KindUnknown means that the record has to be decoded first.
	KindUnknown = -1
	// KindNone means that no kind of worker of any sidecar matches the task.
	KindNone = -2
)

// Isolation is the degree to which a task must run without other tasks.
type Isolation int

const (
	// IsolateNone allows other tasks in the same worker process.
	IsolateNone Isolation = iota
	// IsolateProcess allows no other task in the same worker process. The last loss was
	// the death of a worker process.
	IsolateProcess
	// IsolateRun allows no other task in flight in the whole sidecar. The last loss was
	// the death of a sidecar.
	IsolateRun
)

// Conclusion is the way in which a delivery ended.
type Conclusion int

const (
	// Succeeded means that the worker answered with a success.
	Succeeded Conclusion = iota + 1
	// Failed means that the task raised, timed out or was refused by the worker for good.
	// Its group receives a failed completion.
	Failed
	// Returned means that the task never started, or was interrupted by a stop or by the
	// death of a neighbour. It returns to the head of the queue at no cost.
	Returned
	// Lost means that the worker died with the task. It returns to the head of the queue,
	// and one attempt is counted.
	Lost
	// Retry means that the worker marked the failure as retryable (protocol rule P24). It
	// is delivered again after a delay.
	Retry
	// Dead means that the record must not be run (again): it cannot be decoded, or its
	// attempts are used up. It is stored as a dead letter, and its group receives a failed
	// completion.
	Dead
)

// String returns the name used in logs, traces and the page.
func (c Conclusion) String() string {
	switch c {
	case Succeeded:
		return "succeeded"
	case Failed:
		return "failed"
	case Returned:
		return "returned"
	case Lost:
		return "lost"
	case Retry:
		return "retry"
	case Dead:
		return "dead"
	default:
		return "unknown"
	}
}

// Exit classifies the end of a worker process by its possible cause: a stop that also
// reaches processes other than the sidecar, such as a SIGTERM to a whole control group.
type Exit int

const (
	// ExitOther means that the process did not end, was ended by the sidecar, or crashed.
	ExitOther Exit = iota
	// ExitStatus means that the process ended with its own status. A process that handles
	// SIGTERM does so, and one whose task has failed.
	ExitStatus
	// ExitSignal means that SIGTERM or SIGINT ended the process, or that it ended with the
	// status that a shell derives from them.
	ExitSignal
	// ExitHangup is ExitSignal for SIGHUP, which makes the sidecar replace its workers.
	ExitHangup
)

// Hangups tells of the SIGHUPs that reach a process.
type Hangups interface {
	// Recent reports whether one came within a time; next is closed with the next one.
	Recent(within time.Duration) (is bool, next <-chan struct{})
}

// Outcome is how one delivery ended. Exactly one Outcome reaches the report
// stage for every Task that was claimed.
type Outcome struct {
	Task       Task
	Conclusion Conclusion `json:"Kind"`
	// Message is the error text for the producer (Failed, Dead) or the reason for the log
	// (Returned, Lost, Retry).
	Message string
	// MessageJSON, if set, is Message as a JSON string, byte for byte from the worker: a
	// Go string cannot hold every Python string.
	MessageJSON []byte
	// Reason is a short constant for dead letters and metrics: "invalid",
	// "attempts", "timeout", "protocol" …
	Reason string
	// Shared reports that other tasks were lost with this one (Lost). A shared loss never
	// uses the last attempt.
	Shared bool
	// Whole reports that more than the worker process died, such as its container with
	// other worker processes (Lost). Only alone in the sidecar could the task then be lost
	// without others.
	Whole bool
	// Unread reports that the worker process ended before it had read the record
	// (Returned). The first such end costs no attempt, the second in a row does.
	Unread bool `json:"-"`
	// Exit classifies the end of the worker process.
	Exit Exit `json:"-"`
	// HostStops, if set, is closed when the host of the worker process begins to stop. It
	// is set if that host is not the sidecar.
	HostStops <-chan struct{} `json:"-"`
	// HostHangups, if set, are the SIGHUPs to that host.
	HostHangups Hangups `json:"-"`
	// Isolate says that the task requires IsolateRun and could not get it (Returned). It
	// goes to a sidecar that is idle.
	Isolate bool
	// Stderr is the last lines of the worker, for dead letters.
	Stderr string
	// Stack is the stack trace that the worker sent, for the log.
	Stack string `json:",omitempty"`
	// Value is the result as JSON text, byte for byte from the worker. It is nil if the
	// worker sent none or stores results itself, as Graflow's adapter does.
	Value []byte
	// EndedAt is the time at which the answer or the death of the worker was seen.
	EndedAt time.Time
	// StartedAt is the time at which the task was written to a worker; zero if it was not.
	StartedAt time.Time
	// Slot and PID are those of the worker that received the task; PID is 0 without one.
	Slot, PID int
}

// Size returns the number of bytes of the whole record.
func (t *Task) Size() int { return max(t.Length, len(t.Record)) }

// IsCut reports whether Record is only the head of the record.
func (t *Task) IsCut() bool { return t.Length > len(t.Record) }

// Limit returns the time limit of one execution of the task: the record's own timeout, or
// defaultLimit without one. Zero means no limit.
func (t Task) Limit(defaultLimit time.Duration) time.Duration {
	if t.Info.Timeout > 0 {
		return t.Info.Timeout
	}
	return defaultLimit
}

// SplitDelivery returns the run and the sequence number of a delivery id.
func SplitDelivery(delivery string) (run string, n int64) {
	dot := strings.LastIndexByte(delivery, '.')
	n, _ = strconv.ParseInt(delivery[dot+1:], 10, 64) // package redis creates the ids
	return delivery[:dot], n
}
