//go:build faults

package faults

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// event is one line of a history.
type event struct {
	At       int64  `json:"at"` // Unix, ns
	What     string `json:"what"`
	Task     string `json:"task,omitempty"`
	Group    string `json:"group,omitempty"`
	Delivery string `json:"delivery,omitempty"`
	Pid      int    `json:"pid,omitempty"`
	Parent   int    `json:"parent,omitempty"`
	Text     string `json:"text,omitempty"`
}

// The values of event.What. The producer writes pushed; workers write start, end and kill;
// the test writes fault; the observer writes the others.
const (
	pushed    = "pushed"    // Redis acknowledged a record
	started   = "start"     // a worker began a task
	ended     = "end"       // a worker has done a task and is about to answer
	kills     = "kill"      // a worker is about to kill Pid
	completed = "completed" // a completion was written; Text is its JSON
	value     = "value"     // a result was written
	counted   = "counted"   // a barrier was counted up
	published = "published" // a barrier was reached
	buried    = "dead"      // a dead letter was written
	returned  = "returned"  // a sidecar put a record back on the queue
	fault     = "fault"     // the test caused the fault that Text names
)

func (e event) time() time.Time { return time.Unix(0, e.At) }

// history is a file to which several processes append, one line at a time.
type history struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func openHistory(path string) (*history, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &history{path: path, f: f}, nil
}

// write appends one event; an event without a time gets the current one. The line is in the
// file when write returns, so a process that is killed afterwards does not lose it.
func (h *history) write(e event) error {
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err = h.f.Write(append(line, '\n'))
	return err
}

// read returns all events in the order in which they were written.
func (h *history) read() ([]event, error) {
	f, err := os.Open(h.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, lines.Err()
}

func (h *history) close() error { return h.f.Close() }
