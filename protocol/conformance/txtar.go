package conformance

import "strings"

// section is one file of a txtar archive.
type section struct {
	name string
	line int // of the first line after its header, from 1
	text string
}

// parseTxtar splits a txtar archive: text before the first "-- name --" line is
// the comment.
func parseTxtar(text string) (comment string, sections []section) {
	var b strings.Builder
	flush := func() {
		if len(sections) == 0 {
			comment = b.String()
		} else {
			sections[len(sections)-1].text = b.String()
		}
		b.Reset()
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimRight(line, "\r\n")
		name, isHeader := strings.CutPrefix(trimmed, "-- ")
		if name, ok := strings.CutSuffix(name, " --"); isHeader && ok {
			flush()
			sections = append(sections, section{name: strings.TrimSpace(name), line: n + 1})
			continue
		}
		b.WriteString(line)
	}
	flush()
	return comment, sections
}
