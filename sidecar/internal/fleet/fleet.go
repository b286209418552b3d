// Package fleet defines the values that users see and send: the description that each run
// publishes, the records in the queue, dead letters, and commands. It imports only the
// standard library. Package redis stores them; the CLI, HTTP and the page show them.
package fleet

import "time"

// Run is the description that a run publishes in the registry (P:sidecar:info:{run},
// JSON). It expires with the lease of the run.
type Run struct {
	ID       string    `json:"id"`
	WorkerID string    `json:"worker_id"` // a label, which containers often share
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Mode     string    `json:"mode"`
	Command  string    `json:"command"`           // without values that may be secrets
	State    string    `json:"state"`             // app.State; Absent or Unknown without a description
	Problem  string    `json:"problem,omitempty"` // why a running sidecar is not ready; a crash loop in any state
	Paused   bool      `json:"paused"`
	Since    time.Time `json:"since"`
	Seen     time.Time `json:"seen"` // time of the description
	HTTP     string    `json:"http,omitempty"`

	Slots      int     `json:"slots"`
	Busy       int     `json:"busy"`
	Waiting    int     `json:"waiting"`    // claimed and not started
	Unreported int     `json:"unreported"` // ended and not reported
	Completed  int64   `json:"done"`       // tasks since the start, including failed ones
	Failed     int64   `json:"failed"`     // of these
	Children   []Child `json:"children,omitempty"`
}

// States of a run without a description.
const (
	// Absent means that the lease has expired and another run is about to take the
	// records.
	Absent = "absent"
	// Unknown means that the run is alive and publishes no description.
	Unknown = "unknown"
)

// AllRuns stands for all runs of a prefix in a pause.
const AllRuns = "*"

// States of a worker process.
const (
	Serving = "serving"
	Leaving = "leaving" // it takes no more tasks
	Extra   = "lent"    // an extra process while other tasks wait
)

// Child is a worker process.
type Child struct {
	Slot  int    `json:"slot"`
	PID   int    `json:"pid"`
	Kind  string `json:"kind,omitempty"` // pattern of the kind of worker, if there are several
	State string `json:"state"`          // Serving, Leaving, Extra
	Tasks []Task `json:"tasks,omitempty"`
}

// Task is a task that runs in a worker process.
type Task struct {
	TaskID    string    `json:"task_id"`
	SessionID string    `json:"session_id,omitempty"`
	GroupID   string    `json:"group_id,omitempty"`
	Delivery  string    `json:"delivery"`
	Attempt   int       `json:"attempt"`
	Since     time.Time `json:"since"`
	Waiting   bool      `json:"waiting,omitempty"`
	Progress  *float64  `json:"progress,omitempty"` // 0…1
	Message   string    `json:"message,omitempty"`
}

// InFlight is a record that a run has claimed and not ended.
type InFlight struct {
	Task
	Run   string `json:"run"`
	Host  string `json:"host,omitempty"`
	State string `json:"state"` // running; waiting; held: claimed and not (known to be) started
	Slot  *int   `json:"slot,omitempty"`
	PID   int    `json:"pid,omitempty"`
}

// Record is a record in the queue. Raw is the record itself, byte for byte.
type Record struct {
	Index     int64     `json:"index"` // 0 is claimed next
	TaskID    string    `json:"task_id"`
	SessionID string    `json:"session_id,omitempty"`
	GroupID   string    `json:"group_id,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"` // zero if unknown
	// Age is the age by Redis' clock; nil if unknown.
	Age     *time.Duration `json:"-"`
	Problem string         `json:"problem,omitempty"` // why it will be refused
	Bytes   int            `json:"bytes"`             // of the whole record
	Raw     []byte         `json:"-"`                 // possibly only the first bytes
}

// Queue is the state of the queue of a prefix.
type Queue struct {
	Depth int64 `json:"depth"`
	// Oldest is the age of the record that has waited longest. It is nil if the queue is
	// empty or the age is unknown: no record has a creation time, or those times are
	// ahead of Redis' clock.
	Oldest   *time.Duration `json:"oldest,omitempty"`
	Delayed  int64          `json:"delayed"`
	Unrouted int64          `json:"unrouted"`
	InFlight int64          `json:"in_flight"`
	Dead     int64          `json:"dead"`
	Paused   bool           `json:"paused"` // the whole prefix
}

// DeadLetter is a record that was given up. Raw is the record itself, byte for byte.
type DeadLetter struct {
	ID        string    `json:"id"` // the delivery id
	TaskID    string    `json:"task_id"`
	SessionID string    `json:"session_id"`
	GroupID   string    `json:"group_id"`
	Reason    string    `json:"reason"`
	Message   string    `json:"message"`
	Stderr    string    `json:"stderr,omitempty"`
	Attempts  int       `json:"attempts"`
	At        time.Time `json:"at,omitzero"` // zero if unknown
	Raw       []byte    `json:"-"`           // possibly not JSON
}

// Requeued is the result of a requeue.
type Requeued string

const (
	// RequeueDone means that the record is in the queue again.
	RequeueDone Requeued = "requeued"
	// RequeueGone means that there is no such dead letter (any more).
	RequeueGone Requeued = "no-such-dead-letter"
	// RequeueGroupOver means that the barrier of the group is not open any more, so that
	// no producer waits for the record. A forced requeue is possible.
	RequeueGroupOver Requeued = "group-over"
	// RequeueCounted means that the failure is counted at an open barrier and cannot be
	// undone, for example because the name of the group was used before within a day. A
	// forced requeue runs the record, and its outcome does not count for the group.
	RequeueCounted Requeued = "counted"
)

// Command is a user's command to one run (P:sidecar:orders:{run}, a list of JSON with a
// TTL, read with the tick of each second).
type Command struct {
	Action string `json:"do"`
	Slot   int    `json:"slot,omitempty"` // for restart-child
	By     string `json:"by,omitempty"`   // author, for the log
}

// Actions of a Command.
const (
	Drain           = "drain"
	RestartChild    = "restart-child"    // the worker process of one slot
	RestartChildren = "restart-children" // all worker processes, one after another
)
