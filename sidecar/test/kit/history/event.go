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

// The values of Event.What. The producer writes the first three; workers write Started,
// Ended, Kills and Exits; the test writes Fault and Forgot; the observer of Redis writes the others.
const (
	Pushing   = "pushing"   // a record is about to be sent to Redis
	Pushed    = "pushed"    // Redis acknowledged a record
	GivingUp  = "giving up" // the producer is about to delete a group's barrier
	Started   = "start"     // a worker began a task
	Ended     = "end"       // a worker has done a task and is about to answer
	Kills     = "kill"      // a worker is about to kill Pid
	Exits     = "exit"      // the worker process Pid ends
	Completed = "completed" // a completion was written; Text is its JSON
	Value     = "value"     // a result was written
	Revoked   = "revoked"   // a completion was deleted, since its record is requeued
	Counted   = "counted"   // a barrier was counted; Text is by how much
	Published = "published" // a barrier was reached
	Buried    = "dead"      // a dead letter was written
	Unburied  = "unburied"  // a dead letter was deleted
	Returned  = "returned"  // a sidecar put a record back on the queue
	Added     = "added"     // a worker's request or a requeued dead letter added a record
	Claimed   = "claimed"   // a record was entered among those in flight
	Delayed   = "delayed"   // a record was entered among the delayed ones
	Removed   = "removed"   // a delivery is in flight no more
	Retired   = "retired"   // the run that Text names is a member no more
	Fault     = "fault"     // the test caused the fault that Text names
	Forgot    = "forgot"    // Redis lost a part of its memory
)

// Time returns when the event happened.
func (e Event) Time() time.Time { return time.Unix(0, e.At) }
