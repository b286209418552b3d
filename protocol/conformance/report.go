package conformance

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Status is how a check ended.
type Status string

// The values of Status.
const (
	Passed     Status = "passed"
	Failed     Status = "failed"
	NotChecked Status = "not checked"
)

// Result is what one check has shown.
type Result struct {
	// Check is its name: transcript/section, or always/….
	Check string
	// Rules are those of PROTOCOL.md that it is about.
	Rules []string
	// Requires says in words what they ask of a worker.
	Requires string
	Status   Status
	// Seen is what a failed check saw, or why one was not made and what it
	// takes to have it made.
	Seen string
	// Detail is the end of a failed check's dialogue and of the worker's stderr.
	Detail string
}

func (r Result) ruleList() string { return strings.Join(r.Rules, " ") }

// Report is what a worker's test has shown.
type Report struct {
	// Worker says what the worker says of itself.
	Worker  string
	Results []Result
}

// Count is how many checks ended in that way.
func (r *Report) Count(s Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// Print writes the report for people: a line a check, under a failed one the end
// of its dialogue, then what is missing, and a summary. What the worker wrote reaches no
// terminal as a control character.
func (r *Report) Print(w io.Writer) {
	w = printable{w}
	fmt.Fprintln(w, r.Worker)
	fmt.Fprintln(w)
	for _, result := range r.Results {
		switch result.Status {
		case Passed:
			fmt.Fprintf(w, "ok    %-11s %s\n", result.ruleList(), result.Requires)
		case Failed:
			fmt.Fprintf(w, "FAIL  %-11s %s; seen: %s\n", result.ruleList(), result.Requires, result.Seen)
			for line := range strings.Lines(result.Detail) {
				fmt.Fprint(w, "          ", line)
			}
		}
	}
	var reasons []string
	undone := map[string][]Result{}
	for _, result := range r.Results {
		if result.Status == NotChecked {
			if undone[result.Seen] == nil {
				reasons = append(reasons, result.Seen)
			}
			undone[result.Seen] = append(undone[result.Seen], result)
		}
	}
	for _, reason := range reasons {
		fmt.Fprintf(w, "\nnot checked: %s\n", reason)
		if reason == notStarted {
			continue // all the rest; no use in a list of that
		}
		for _, result := range undone[reason] {
			fmt.Fprintf(w, "--    %-11s %s\n", result.ruleList(), result.Requires)
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d not checked\n", r.Count(Passed), r.Count(Failed), r.Count(NotChecked))
}

// shown is how much of a message is quoted.
const shown = 200

// clip shortens what is quoted, and keeps it to one line of text.
func clip[T ~[]byte | ~string](b T) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == '\uFFFD' || r == '\uFEFF' {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), shown)]), "·"))
	if len(b) > shown {
		s += fmt.Sprintf("… (%d bytes)", len(b))
	}
	return s
}

// printable passes on text, with everything escaped that a terminal may act on.
type printable struct{ w io.Writer }

// Write takes whole texts only: a character in two pieces would be escaped.
func (p printable) Write(text []byte) (int, error) {
	var b strings.Builder
	for i, r := range string(text) {
		switch {
		case r == '\n', r == '\t', unicode.IsPrint(r) && r != utf8.RuneError:
			b.WriteRune(r)
		case r == utf8.RuneError && text[i] != 0xef:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == utf8.RuneError:
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	if _, err := io.WriteString(p.w, b.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}
