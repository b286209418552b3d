package logdocs

import (
	"regexp"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/docs"
)

// Section is a part of the operations document: a heading of the third level with a
// list of ids right below it, or the name of an alert, which is its own id.
type Section struct {
	Title   string
	Entries []Entry // at least one
	body    string  // Markdown
}

// Entry is an id of a section, and what has that id.
type Entry struct {
	ID      string
	Meaning string // the log message, or a sentence
}

// entryLine is an id in the list below a heading.
var entryLine = regexp.MustCompile("^- `([a-z0-9-]+)`: (.+)$")

// Sections returns all sections of the document, in its order.
var Sections = sync.OnceValue(func() []Section {
	var all []Section
	for part := range strings.SplitSeq(docs.Operations, "\n### ") {
		title, text, _ := strings.Cut(part, "\n")
		if strings.HasPrefix(title, "#") {
			continue // the head of the document
		}
		text, _, _ = strings.Cut(text, "\n## ") // the next chapter
		s := Section{Title: title}
		text = strings.TrimSpace(text)
		for {
			line, rest, _ := strings.Cut(text, "\n")
			match := entryLine.FindStringSubmatch(line)
			if match == nil {
				break
			}
			s.Entries = append(s.Entries, Entry{match[1], strings.ReplaceAll(match[2], "`", "")})
			text = rest
		}
		s.body = strings.TrimSpace(text)
		if len(s.Entries) == 0 {
			sentence, _, _ := strings.Cut(strings.Join(strings.Fields(s.body), " "), ". ")
			s.Entries = []Entry{{title, strings.ReplaceAll(strings.TrimSuffix(sentence, "."), "`", "")}}
		}
		all = append(all, s)
	}
	return all
})

// byID are the sections by the lower-case form of each of their ids.
var byID = sync.OnceValue(func() map[string]Section {
	found := map[string]Section{}
	for _, s := range Sections() {
		for _, e := range s.Entries {
			found[strings.ToLower(e.ID)] = s
		}
	}
	return found
})

// Find returns the section that explains an id, whose case does not matter.
func Find(id string) (Section, bool) {
	s, ok := byID()[strings.ToLower(id)]
	return s, ok
}
