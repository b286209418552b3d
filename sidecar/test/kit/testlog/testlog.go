// Package testlog has a log buffer for tests.
package testlog

import (
	"bytes"
	"strings"
	"sync"
)

// Buffer is a log in memory, safe for concurrent use. The zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the log.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns everything that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Count returns how often a text was written so far.
func (b *Buffer) Count(text string) int { return strings.Count(b.String(), text) }

// Has reports whether a text was written.
func (b *Buffer) Has(text string) bool { return strings.Contains(b.String(), text) }

// Tail returns the end of a text, short enough for a failure message.
func Tail(text string) string {
	const most = 12_000
	if len(text) <= most {
		return text
	}
	return "[…]" + text[len(text)-most:]
}
