package page

import (
	"sync"
	"time"
)

// Failure is a task of this sidecar that did not succeed.
type Failure struct {
	// Seq numbers them from 1.
	Seq       int64     `json:"seq"`
	At        time.Time `json:"at"`
	TaskID    string    `json:"task_id"`
	SessionID string    `json:"session_id,omitempty"`
	GroupID   string    `json:"group_id,omitempty"`
	Kind      string    `json:"kind"` // failed, dead, lost, retry
	Reason    string    `json:"reason,omitempty"`
	Message   string    `json:"message,omitempty"`
	Stderr    string    `json:"stderr,omitempty"`
	Attempt   int       `json:"attempt"`
	Took      int64     `json:"took,omitempty"` // milliseconds
}

const (
	maxFailures       = 100
	maxFailureMessage = 2048
	maxFailureStderr  = 4096
)

// Failures are the last hundred. The zero value is empty and ready; the methods
// may be called concurrently.
type Failures struct {
	mu   sync.Mutex
	seq  int64
	ring [maxFailures]Failure
}

// Add enters one; its Seq is set here, and long texts are cut.
func (f *Failures) Add(one Failure) {
	one.Message, one.Stderr = head(one.Message, maxFailureMessage), tail(one.Stderr, maxFailureStderr)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	one.Seq = f.seq
	f.ring[f.seq%maxFailures] = one
}

// since are those after seq that are still there, oldest first.
func (f *Failures) since(seq int64) []Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Failure
	for n := max(seq, f.seq-maxFailures) + 1; n <= f.seq; n++ {
		list = append(list, f.ring[n%maxFailures])
	}
	return list
}
