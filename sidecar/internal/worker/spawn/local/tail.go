package local

import (
	"slices"
	"strings"
	"sync"
)

// tailLines is how many of the worker's last stderr lines are kept for start failures
// and dead letters.
const tailLines = 20

// Tail keeps the last lines of a stream. The zero value is empty. Its methods may be
// called concurrently.
type Tail struct {
	mu    sync.Mutex
	lines []string
}

// Add appends a line and removes the oldest one if there are too many.
func (t *Tail) Add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		copy(t.lines, t.lines[1:])
		t.lines = t.lines[:tailLines-1]
	}
	t.lines = append(t.lines, line)
}

// Last returns the last line that is not blank.
func (t *Tail) Last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range slices.Backward(t.lines) {
		if s := strings.TrimSpace(line); s != "" {
			return s
		}
	}
	return ""
}

// Text returns all kept lines.
func (t *Tail) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
