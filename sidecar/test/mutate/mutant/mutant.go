// Package mutant describes one deliberate change of the source.
package mutant

import (
	"fmt"
	"strings"
)

// Mutant is one change of one file: the text from Start to End becomes New.
type Mutant struct {
	File       string // path below the repository
	Line       int
	Source     string // the line, without space at its ends
	Start, End int    // offsets in the file
	Old, New   string
	// Nth tells apart the mutants of a file that read alike: it is 1 for the first.
	Nth int
}

// Change returns the change as one line.
func (m Mutant) Change() string {
	if m.New == "" {
		return fmt.Sprintf("remove %s", short(m.Old))
	}
	return fmt.Sprintf("%s => %s", short(m.Old), short(m.New))
}

// Key identifies the mutant by what it changes. It contains no line number, so that a
// change elsewhere in the file does not alter it.
func (m Mutant) Key() string {
	key := fmt.Sprintf("%s | %s | %s", m.File, m.Source, m.Change())
	if m.Nth > 1 {
		key += fmt.Sprintf(" | %d", m.Nth)
	}
	return key
}

func (m Mutant) String() string {
	return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Change())
}

// Apply returns the changed text of the file.
func (m Mutant) Apply(text string) string { return text[:m.Start] + m.New + text[m.End:] }

// Finish fills in line, source and number of the mutants of one file.
func Finish(file, text string, all []Mutant) []Mutant {
	seen := map[string]int{}
	for i := range all {
		m := &all[i]
		m.File, m.Nth = file, 0
		m.Old = text[m.Start:m.End]
		m.Line = 1 + strings.Count(text[:m.Start], "\n")
		from := strings.LastIndexByte(text[:m.Start], '\n') + 1
		line, _, _ := strings.Cut(text[from:], "\n")
		m.Source = strings.TrimSpace(line)
		key := m.Key()
		seen[key]++
		m.Nth = seen[key]
	}
	return all
}

// short returns text in one line of at most 70 bytes.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 70 {
		return text[:50] + "..." + text[len(text)-17:]
	}
	return text
}
