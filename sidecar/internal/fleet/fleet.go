// Package fleet has the nouns of what people see and do: what each run says of
// itself in the registry, what stands in the queue, dead letters, and the
// commands that a person gives. Standard library only: the store reads and writes
// them, commands, HTTP and the page show them.
package fleet

import "time"

// Run is what a run says of itself in the registry (P:sidecar:info:{run},
// JSON). It is gone with the run's lease at the latest.
type Run struct {
	ID       string    `json:"id"`
	WorkerID string    `json:"worker_id"` // a label: containers often share one
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Mode     string    `json:"mode"`
	Command  string    `json:"command"`           // without values that could be secrets
	State    string    `json:"state"`             // app.State; Absent or Unknown where nothing is said
	Problem  string    `json:"problem,omitempty"` // why one that runs is not ready
	Paused   bool      `json:"paused"`
	Since    time.Time `json:"since"`
	Seen     time.Time `json:"seen"` // when it said this
	HTTP     string    `json:"http,omitempty"`

	Slots      int     `json:"slots"`
	Busy       int     `json:"busy"`
	Waiting    int     `json:"waiting"`    // claimed and not started
	Unreported int     `json:"unreported"` // ended, and Redis has not heard of it
	Completed  int64   `json:"done"`       // tasks since it began, failed ones too
	Failed     int64   `json:"failed"`     // of these
	Children   []Child `json:"children,omitempty"`
}

// What the state of a run is that says nothing of itself.
const (
	// Absent: its lease has run out, and another run is about to take its records.
	Absent = "absent"
	// Unknown: it is alive, and of a version that says no more.
	Unknown = "unknown"
)

// Everyone stands for all runs of a prefix where a run is paused.
const AllRuns = "*"

// States of a worker process.
const (
	Serving = "serving"
	Leaving = "leaving" // it takes no more tasks
	Extra   = "lent"    // it is there because slots are lent to others
)

// Child is a worker process.
type Child struct {
	Slot  int    `json:"slot"`
	PID   int    `json:"pid"`
	Kind  string `json:"kind,omitempty"` // pattern of its kind of worker, where there are several
	State string `json:"state"`          // Serving, Leaving, Lent
	Tasks []Task `json:"tasks,omitempty"`
}

// Task is a task that runs in a child.
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
	State string `json:"state"` // running, waiting; held: claimed and not (known to be) started
	Slot  *int   `json:"slot,omitempty"`
	PID   int    `json:"pid,omitempty"`
}

// Record is a record that stands in the queue; Raw is it, byte for byte.
type Record struct {
	Index     int64     `json:"index"` // 0 is claimed next
	TaskID    string    `json:"task_id"`
	SessionID string    `json:"session_id,omitempty"`
	GroupID   string    `json:"group_id,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"` // zero where it is not known
	// Age is by Redis' clock; nil where it is not known.
	Age     *time.Duration `json:"-"`
	Problem string         `json:"problem,omitempty"` // why it will be refused
	Bytes   int            `json:"bytes"`             // of the whole record
	Raw     []byte         `json:"-"`                 // the first of them, if there are fewer
}

// Queue is what stands before the sidecars, whoever takes it.
type Queue struct {
	Depth int64 `json:"depth"`
	// Oldest is the age of the record that has waited longest. It is nil where none
	// waits, or where it is not known: no record says when it was made, or those that
	// do are ahead of Redis' clock.
	Oldest   *time.Duration `json:"oldest,omitempty"`
	Delayed  int64          `json:"delayed"`
	Unrouted int64          `json:"unrouted"`
	InFlight int64          `json:"in_flight"`
	Dead     int64          `json:"dead"`
	Paused   bool           `json:"paused"` // the whole prefix
}

// DeadLetter is a record that was given up; Raw is it, byte for byte.
type DeadLetter struct {
	ID        string    `json:"id"` // the delivery id
	TaskID    string    `json:"task_id"`
	SessionID string    `json:"session_id"`
	GroupID   string    `json:"group_id"`
	Reason    string    `json:"reason"`
	Message   string    `json:"message"`
	Stderr    string    `json:"stderr,omitempty"`
	Attempts  int       `json:"attempts"`
	At        time.Time `json:"at,omitzero"` // zero where it is not known
	Raw       []byte    `json:"-"`           // may be no JSON at all
}

// Requeued says what became of a requeue or why it was refused.
type Requeued string

const (
	// RequeueDone: the record stands in the queue again.
	RequeueDone Requeued = "requeued"
	// RequeueGone: there is no such dead letter (any more).
	RequeueGone Requeued = "no-such-dead-letter"
	// RequeueGroupOver: its group's barrier is no longer open, so nobody waits
	// for it; forced it is done all the same.
	RequeueGroupOver Requeued = "group-over"
	// RequeueCounted: its failure stands at an open barrier in a way that cannot
	// be taken back (the group's name was used before within a day, say); forced
	// it runs, and what it answers counts for nobody.
	RequeueCounted Requeued = "counted"
)

// Command is what a person tells one run to do (P:sidecar:orders:{run}, a list of
// JSON with a TTL, read with the tick of each second).
type Command struct {
	Action string `json:"do"`
	Slot   int    `json:"slot,omitempty"` // of restart-child
	By     string `json:"by,omitempty"`   // who gave it, for the log
}

// What a command can say.
const (
	Drain           = "drain"
	RestartChild    = "restart-child"    // the one in a slot
	RestartChildren = "restart-children" // all, one after another
)
