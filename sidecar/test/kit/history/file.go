package history

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// File is a history to which several processes append, one line at a time.
type File struct {
	Path string
	mu   sync.Mutex
	f    *os.File
}

// Open opens a history, and creates a missing file.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &File{Path: path, f: f}, nil
}

// Write appends one event; an event without a time gets the current one. The line is in the
// file when Write returns, so a process that is killed afterwards does not lose it.
func (h *File) Write(e Event) error {
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

// Read returns all events in the order in which they were written.
func (h *File) Read() ([]Event, error) {
	f, err := os.Open(h.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, lines.Err()
}

// Close closes the file.
func (h *File) Close() error { return h.f.Close() }
