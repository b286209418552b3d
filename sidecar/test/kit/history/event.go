// Package history has the history of a test and its checker: what producers pushed, what
// workers ran, and what Redis counted. The checker judges a history by what
// docs/guarantees.md promises. It knows nothing of how the sidecar is built, so that a
// mistake of the sidecar is not repeated in its judge. The fault suite and the simulation
// share it.
package history

import "time"

// Event is one line of a history.
type Event struct {
	At       int64  `json:"at"` // Unix, ns
	What     string `json:"what"`
	Task     string `json:"task,omitempty"`
	Group    string `json:"group,omitempty"`
	Delivery string `json:"delivery,omitempty"`
	Pid      int    `json:"pid,omitempty"`
	Parent   int    `json:"parent,omitempty"`
	Text     string `json:"text,omitempty"`
}

// The values of Event.What. The producer writes Pushed; workers write Started, Ended and
// Kills; the test writes Fault; the observer of Redis writes the others.
const (
	Pushed    = "pushed"    // Redis acknowledged a record
	Started   = "start"     // a worker began a task
	Ended     = "end"       // a worker has done a task and is about to answer
	Kills     = "kill"      // a worker is about to kill Pid
	Completed = "completed" // a completion was written; Text is its JSON
	Value     = "value"     // a result was written
	Counted   = "counted"   // a barrier was counted up
	Published = "published" // a barrier was reached
	Buried    = "dead"      // a dead letter was written
	Returned  = "returned"  // a sidecar put a record back on the queue
	Fault     = "fault"     // the test caused the fault that Text names
)

// Time returns when the event happened.
func (e Event) Time() time.Time { return time.Unix(0, e.At) }
