// Package testlog is what tests log to.
package testlog

import (
	"bytes"
	"strings"
	"sync"
)

// Buffer is a log that several goroutines write. The zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to it.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Count is how often a text was written so far.
func (b *Buffer) Count(text string) int { return strings.Count(b.String(), text) }

// Has reports whether a text was written.
func (b *Buffer) Has(text string) bool { return strings.Contains(b.String(), text) }

// Tail returns the end of a text, short enough for a failure message that is read.
func Tail(text string) string {
	const most = 12_000
	if len(text) <= most {
		return text
	}
	return "[…]" + text[len(text)-most:]
}
