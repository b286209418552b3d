// Package task holds the nouns that travel through the pipeline: what was
// claimed from Redis (Task) and what became of it (Outcome). It imports only
// the standard library and jsonscan, so that every stage can speak of a task
// without knowing any other stage, Redis or the worker protocol.
package task

import (
	"strconv"
	"strings"
	"time"
)

// Task is one delivery of one record. It is immutable once the claim stage
// has made it and may be read by any goroutine.
type Task struct {
	// Delivery identifies this delivery of the record: the run id, a dot and
	// the claim sequence number. A record that is delivered again gets a new one.
	Delivery string
	// Seq is the claim sequence number: records that are handed back return
	// to the queue in descending Seq so that their old order holds.
	Seq int64
	// Record is the queue's bytes, verbatim, and is not modified. Of a record that
	// is never handed to a worker it may be the head only: see Size.
	Record []byte
	// Length is how many bytes the whole record has. 0 means len(Record).
	Length int
	// Info is what the sidecar itself reads from the record.
	Info Info
	// Attempt is 1 for a record whose deliveries were never lost to a crash,
	// and one more for every delivery that was.
	Attempt int
	// Counted says that Redis keeps a count of its lost deliveries, which its end has
	// to clear.
	Counted bool
	// Route is which kind of worker runs it, counted from 0; 0 where there is one
	// kind. See also RouteUnknown and RouteNone.
	Route int
	// Lone says that this is the record's last attempt and in what company it
	// must not be: if it is what killed its company before, it dies alone now.
	Lone Lone
	// ClaimedAt is when the claim's reply was read.
	ClaimedAt time.Time
	// Span is nil where no traces are made. What is spooled has none any more.
	Span Span `json:"-"`
}

// Routes that are no kind of worker.
const (
	// RouteUnknown: the record has to be decoded first.
	RouteUnknown = -1
	// RouteNone: no kind of worker takes it, here or elsewhere.
	RouteNone = -2
)

// Lone says how alone a task has to run.
type Lone int

const (
	// Together: as any other.
	Together Lone = iota
	// AloneInChild: no other task in its worker process. Its last loss was the
	// death of a child.
	AloneInChild
	// AloneInRun: nothing else in flight in the whole sidecar. Its last loss was
	// the death of a sidecar.
	AloneInRun
)

// Kind says how a delivery ended.
type Kind int

const (
	// Succeeded: the worker answered with a success.
	Succeeded Kind = iota + 1
	// Failed: the task raised, timed out or was refused by the worker for
	// good. It is reported to the group as a failed completion.
	Failed
	// Returned: never started, or cut short by a stop or by a neighbour's
	// death: back to the head of the queue, at no cost.
	Returned
	// Lost: the worker died with it. Back to the head of the queue, and one
	// attempt is counted.
	Lost
	// Retry: the worker says that the failure is retryable (protocol rule
	// P24): delivered again after a delay.
	Retry
	// Dead: not to be run (again): undecodable, or out of attempts. Kept in
	// the dead letters, and reported to its group as a failed completion.
	Dead
)

func (k Kind) String() string {
	switch k {
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

// Exit says whether a stop that reaches more than the sidecar, such as a SIGTERM to a
// whole control group, may have ended a process.
type Exit int

const (
	// ExitOther: it did not end, the sidecar ended it, or it crashed.
	ExitOther Exit = iota
	// ExitStatus: it ended with a status of its own, as a process does that handles
	// SIGTERM, and also one whose task has failed.
	ExitStatus
	// ExitSignal: it was ended by SIGTERM or SIGINT, or with the status that a shell
	// makes of these.
	ExitSignal
	// ExitHangup: the same of SIGHUP, with which the sidecar replaces its workers.
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
	Task Task
	Kind Kind
	// Message is the error text a producer sees (Failed, Dead) or the reason
	// that the log gives (Returned, Lost, Retry).
	Message string
	// MessageJSON, if set, is Message as a JSON string, digit for digit from the
	// worker: Go's strings cannot hold all that Python's can.
	MessageJSON []byte
	// Reason is a short constant for dead letters and metrics: "invalid",
	// "attempts", "timeout", "protocol" …
	Reason string
	// Shared says that other tasks died with this one (Lost): such a death
	// never supplies the last attempt.
	Shared bool
	// Whole says that this was the death of more than the child, of its container
	// say, with other children in it (Lost): only alone in the sidecar could the
	// task die without others.
	Whole bool
	// Unread says that the worker's process ended before it had read the record
	// (Returned): it costs no attempt, but twice in a row it does.
	Unread bool `json:"-"`
	// Exit says whether a stop may have ended the worker's process.
	Exit Exit `json:"-"`
	// HostStops, if set, is closed when the host of the process begins its own stop,
	// where that is not the sidecar.
	HostStops <-chan struct{} `json:"-"`
	// HostHangups, if set, are the SIGHUPs to that host.
	HostHangups Hangups `json:"-"`
	// Isolate says that the task must be AloneInRun and could not be (Returned): it
	// goes to a sidecar that is idle.
	Isolate bool
	// Stderr is the worker's last lines, for dead letters.
	Stderr string
	// Stack is where the task failed, as the worker tells it, for the log.
	Stack string `json:",omitempty"`
	// Value is the result as JSON text, verbatim from the worker; nil where
	// the worker gave none or stores results itself (Graflow's adapter does).
	Value []byte
	// EndedAt is when the worker's answer (or death) was seen.
	EndedAt time.Time
	// StartedAt is when the task was written to a worker; zero if it never was.
	StartedAt time.Time
	// Slot and PID are those of the worker that had it; PID is 0 if none had.
	Slot, PID int
}

// Size is how many bytes the whole record has.
func (t *Task) Size() int { return max(t.Length, len(t.Record)) }

// IsCut reports whether Record is only the head of the record.
func (t *Task) IsCut() bool { return t.Length > len(t.Record) }

// Limit is how long one run of the task may take: the record's own timeout, or
// else the given one. Zero means no limit.
func (t Task) Limit(otherwise time.Duration) time.Duration {
	if t.Info.Timeout > 0 {
		return t.Info.Timeout
	}
	return otherwise
}

// SplitDelivery returns a delivery's run and number.
func SplitDelivery(delivery string) (run string, n int64) {
	dot := strings.LastIndexByte(delivery, '.')
	n, _ = strconv.ParseInt(delivery[dot+1:], 10, 64) // the ids are made in package redis
	return delivery[:dot], n
}
