package conformance

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed transcripts/*.txtar
var transcriptFiles embed.FS

// dialogue is one transcript: checks that belong together.
type dialogue struct {
	name   string
	mode   mode
	checks []*check
}

// mode is what the checks of a dialogue share.
type mode string

const (
	apart   mode = ""        // each has a worker of its own
	shared  mode = "shared"  // one worker, another one if it died
	chained mode = "chained" // one worker, and each goes on where the last one stopped
)

// check is one section of a transcript.
type check struct {
	name     string
	rules    []string
	requires string
	needs    []string // records, and "one": a worker that runs one task at a time
	start    string   // members for the params of initialize
	steps    []step
}

// step is one line of a section.
type step struct {
	where  string // file:line
	each   bool
	verb   string
	args   []string      // the words that follow
	rest   string        // all that follows, as it stands
	within time.Duration // 0: the kit's patience
}

// verbs are the steps that there are, and how many words they take at least.
var verbs = map[string]int{
	"spawn": 0, "start": 0, "→": 1, "←": 1, "pause": 1, "open": 1, "busy": 0, "idle": 0, "waits": 1, "unanswered": 1,
	"once": 1, "refused": 1, "order": 2, "signal": 1, "close": 0, "exit": 0,
}

// transcripts reads the embedded transcripts, in the order of their names.
var transcripts = sync.OnceValues(func() ([]*dialogue, error) {
	return readTranscripts(transcriptFiles)
})

func readTranscripts(files fs.FS) ([]*dialogue, error) {
	names, err := fs.Glob(files, "transcripts/*.txtar")
	if err != nil {
		return nil, err
	}
	var all []*dialogue
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		d, err := parseDialogue(name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// parseDialogue reads one transcript.
func parseDialogue(file, text string) (*dialogue, error) {
	base := strings.TrimSuffix(file[strings.LastIndexByte(file, '/')+1:], ".txtar")
	_, name, _ := strings.Cut(base, "-") // the number is for the order only
	d := &dialogue{name: name}
	comment, sections := parseTxtar(text)
	var needs []string
	start := ""
	for line := range strings.Lines(comment) {
		line = strings.TrimSpace(line)
		if names, ok := strings.CutPrefix(line, "needs "); ok {
			needs = strings.Fields(names)
		} else if members, ok := strings.CutPrefix(line, "start "); ok {
			start = members
		} else if m := mode(line); m == shared || m == chained {
			d.mode = m
		}
	}
	for _, s := range sections {
		c, err := parseCheck(file, s)
		if err != nil {
			return nil, err
		}
		c.name = name + "/" + s.name
		c.start = start
		c.needs = slices.Concat(needs, c.needs)
		d.checks = append(d.checks, c)
	}
	return d, nil
}

// parseCheck reads one section: its first line, then steps.
func parseCheck(file string, s section) (*check, error) {
	c := &check{}
	n := s.line - 1
	for line := range strings.Lines(s.text) {
		n++
		where := fmt.Sprintf("%s:%d", file, n)
		line = strings.TrimSpace(line)
		switch needs, isNeeds := strings.CutPrefix(line, "needs "); {
		case line == "" || strings.HasPrefix(line, "#"):
		case c.requires == "":
			rules, requires, ok := strings.Cut(line, ": ")
			if !ok {
				return nil, fmt.Errorf("%s: a section begins with its rules, a colon and what they ask", where)
			}
			c.rules, c.requires = strings.Fields(rules), requires
		case isNeeds:
			c.needs = append(c.needs, strings.Fields(needs)...)
		default:
			st, err := parseStep(where, line)
			if err != nil {
				return nil, err
			}
			c.steps = append(c.steps, st)
		}
	}
	if len(c.steps) == 0 {
		return nil, fmt.Errorf("%s: the section %s has no steps", file, s.name)
	}
	return c, nil
}

func parseStep(where, line string) (step, error) {
	s := step{where: where}
	line, s.each = strings.CutPrefix(line, "each ")
	if at := strings.LastIndex(line, " within "); at >= 0 {
		d, err := time.ParseDuration(line[at+len(" within "):])
		if err != nil {
			return s, fmt.Errorf("%s: %w", where, err)
		}
		s.within, line = d, line[:at]
	}
	s.verb, s.rest, _ = strings.Cut(line, " ")
	s.args = strings.Fields(s.rest)
	least, known := verbs[s.verb]
	if !known || len(s.args) < least {
		return s, fmt.Errorf("%s: no such step: %s", where, line)
	}
	if s.verb == "pause" {
		d, err := time.ParseDuration(s.args[0])
		if err != nil {
			return s, fmt.Errorf("%s: %w", where, err)
		}
		s.within = d
	}
	return s, nil
}

// forTask is the step for the i-th of the tasks that run at a time.
func (s step) forTask(i int) step {
	id := fmt.Sprint(firstTask + i)
	s.rest = strings.ReplaceAll(s.rest, "$i", id)
	s.args = slices.Clone(s.args)
	for n := range s.args {
		s.args[n] = strings.ReplaceAll(s.args[n], "$i", id)
	}
	return s
}

// firstTask is the id of the first of those tasks.
const firstTask = 100
