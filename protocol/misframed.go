package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Misframed is a message in a form that no reader of this protocol takes, and
// that its writer meant as one all the same (P59). Its slices are copies.
type Misframed struct {
	// ID is the JSON token of its id; nil if it has none.
	ID []byte
	// Method is that of a request or a notification; empty in a response.
	Method string
	// Outcome reports that its result or its error is one that a task/run may
	// have: a result with one of the known statuses, or an error with a code of
	// JSON-RPC.
	Outcome bool
	// Flaw says what is wrong with its form, as a clause that begins with "it";
	// empty where that is none of the known mistakes.
	Flaw string
}

// A MisframedFinder finds such messages in the lines of a stream that are not
// messages. It is meant for prints, which are rare: it looks at every byte of
// them once or twice, keeps no more than a few hundred of them, and waits for
// nothing. The zero value is ready. It is for one goroutine at a time.
type MisframedFinder struct {
	open   *objectScan // an object that begins on an earlier line
	header bool        // the last line that is not blank is a Content-Length header
	tail   bool        // what it looks at may go on: only whole objects count
	part   bool        // it looks at a part of a line
	begun  bool        // parts of the line were looked at before
}

// Line looks at one line, without its end, that is not a message, and returns what
// it ends or begins there that was meant as one. An object over several lines is
// returned with the first line that makes it known.
func (f *MisframedFinder) Line(line []byte) []Misframed {
	found := f.look(line)
	f.begun = false
	if f.open != nil {
		f.open.line = false
		f.open.feed([]byte{'\n'})
	}
	if len(bytes.TrimSpace(line)) > 0 {
		f.header = headerField.Match(line)
	}
	return found
}

// Part looks at a part of a line that is too long to be kept. The parts come in their
// order, and then Line with nothing.
func (f *MisframedFinder) Part(part []byte) []Misframed {
	f.part = true
	found := f.look(part)
	f.part, f.begun = false, f.begun || len(bytes.TrimSpace(part)) > 0
	return found
}

// Tail looks at what stands behind the last line end of a stream that has paused.
// It changes nothing: Line sees the whole of that line once it has ended.
func (f *MisframedFinder) Tail(tail []byte) []Misframed {
	now := f.clone()
	found := now.look(tail)
	for i := range found {
		found[i].Flaw = strings.TrimSuffix("its line has no end, and "+found[i].Flaw, ", and ")
	}
	return found
}

// Ends reports that a message which has begun on an earlier line ends with this tail.
func (f *MisframedFinder) Ends(tail []byte) bool {
	if f.open == nil || !f.open.told {
		return false
	}
	n, state := f.clone().open.feed(tail)
	return state == scanClosed && len(bytes.TrimSpace(tail[n:])) == 0
}

func (f *MisframedFinder) clone() MisframedFinder {
	now := MisframedFinder{header: f.header, tail: true}
	if f.open != nil {
		open := *f.open
		open.token = bytes.Clone(open.token)
		now.open = &open
	}
	return now
}

// Passed tells that a message came in the right form.
func (f *MisframedFinder) Passed() { f.header = false }

// Header reports that the last line was a Content-Length header.
func (f *MisframedFinder) Header() bool { return f.header }

// Open reports that an object has begun on an earlier line and has not ended, and
// that nothing tells yet whether it is a message.
func (f *MisframedFinder) Open() bool { return f.open != nil && !f.open.told }

// headerField is how the framing of language servers begins.
var headerField = regexp.MustCompile(`(?i)^\s*content-(length|type)\s*:`)

// batch is what stands in front of a message of a batch.
var batch = regexp.MustCompile(`^\[\s*(\{|$)`)

// escapeSequence is what terminals take as a colour, a cursor movement or a title.
var escapeSequence = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_=>])`)

var byteOrderMark = []byte("\uFEFF")

// TrimByteOrderMark takes a byte order mark, with which some libraries begin what
// they write, off a line (P58).
func TrimByteOrderMark(line []byte) []byte { return bytes.TrimPrefix(line, byteOrderMark) }

func (f *MisframedFinder) look(line []byte) (found []Misframed) {
	wide := isWide(line)
	if wide {
		line = bytes.TrimLeft(bytes.ReplaceAll(line, []byte{0}, nil), "\xff\xfe")
	}
	if inner, ok := encodedTwice(line); ok {
		found = (&MisframedFinder{}).look(inner)
		for i := range found {
			found[i].Flaw = "it is a JSON string with the message in it"
		}
		return found
	}
	rest, budget := line, 2*len(line)+minScan
	if o := f.open; o != nil {
		n, state := o.feed(line)
		f.tell(o, state, &found, wide, nil, nil)
		switch state {
		case scanOpen:
			return found
		case scanClosed:
			rest = line[n:]
		case scanBroken:
		}
		f.open = nil
	}
	first := len(rest) == len(line)
	for at := 0; budget > 0; first = false {
		i := bytes.IndexByte(rest[at:], '{')
		if i < 0 {
			return found
		}
		at += i
		front := line[:len(line)-len(rest)+at]
		o := &objectScan{first: first && !f.begun && isNothing(front), line: true}
		n, state := o.feed(rest[at:])
		budget -= n
		var behind []byte
		if state == scanClosed {
			behind = bytes.TrimSpace(rest[at+n:])
		}
		f.tell(o, state, &found, wide, front, behind)
		switch state {
		case scanOpen:
			f.open, o.before = o, f.place(front)
			return found
		case scanClosed:
			at += n
		case scanBroken:
			at++
		}
	}
	return found
}

// minScan is how many bytes of a line are looked at, however short it is: where
// objects are broken, some are looked at again.
const minScan = 64 << 10

// tell adds what an object is, once, if that is known. front and behind are what
// else is on its line; front is nil for one that began earlier.
func (f *MisframedFinder) tell(o *objectScan, state scanState, found *[]Misframed, wide bool, front, behind []byte) {
	if o.told || !o.isMessage() || state == scanOpen && (f.tail || !o.outcome && o.method == "") {
		return
	}
	o.told = true
	before := o.before
	if front != nil {
		before = f.place(front)
	}
	m := Misframed{ID: bytes.Clone(o.id), Method: o.method, Outcome: o.outcome}
	var flaws []string
	switch {
	case f.header, headerField.Match(behind), headerField.Match(bytes.TrimSpace(front)):
		flaws = append(flaws, "it is framed with a Content-Length header")
	case !o.line, state == scanOpen && !f.part:
		flaws = append(flaws, "it is spread over several lines")
	case before != "":
		flaws = append(flaws, before)
	}
	if len(behind) > 0 && len(flaws) == 0 {
		flaws = append(flaws, "text stands behind it on its line: "+quoted(behind))
	}
	if wide {
		flaws = append(flaws, "it is in UTF-16")
	}
	if o.single {
		flaws = append(flaws, "it has strings in single quotes, which is not JSON")
	}
	if o.upper {
		flaws = append(flaws, "the names of its members are not in lower case")
	}
	if !o.version && state != scanOpen {
		flaws = append(flaws, `it has no "jsonrpc":"2.0"`)
	}
	m.Flaw = strings.Join(flaws, ", and ")
	*found = append(*found, m)
}

// place says what is wrong with the place of an object behind front, if anything is.
func (f *MisframedFinder) place(front []byte) string {
	switch before := bytes.TrimSpace(front); {
	case batch.Match(before) && !f.begun:
		return "it stands in a batch"
	case len(before) > 0:
		return frontFlaw(before)
	case f.begun:
		return "text stands in front of it on its line"
	default:
		return ""
	}
}

// frontFlaw names what stands in front of a message.
func frontFlaw(text []byte) string {
	what := "text"
	switch rest := bytes.TrimSpace(escapeSequence.ReplaceAll(text, nil)); {
	case len(rest) == 0:
		what = "an escape sequence"
	case len(bytes.Trim(rest, "\x00")) == 0:
		what = "a NUL"
	case isNothing(rest):
		what = "a control character"
	}
	return what + " stands in front of it on its line: " + quoted(text)
}

// quoted shows the beginning of a text.
func quoted(text []byte) string {
	const most = 60
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q and %d bytes more", text[:most], len(text)-most)
}

// isNothing reports whether a text is nothing that a reader would see.
func isNothing(text []byte) bool {
	if len(text) > maxNothing {
		return false
	}
	text = escapeSequence.ReplaceAll(TrimByteOrderMark(text), nil)
	return bytes.IndexFunc(text, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsSpace(r) && !unicode.IsControl(r)
	}) < 0
}

// maxNothing is the greatest length of what no reader sees.
const maxNothing = 4096

// isWide reports whether a line is in UTF-16: of English text in it every second
// byte is 0.
func isWide(line []byte) bool {
	return len(line) > 4 && bytes.IndexByte(line[:min(4, len(line))], 0) >= 0 && bytes.Count(line, []byte{0}) >= len(line)/3
}

// encodedTwice gives the text of a line that is a JSON string with an object in it.
func encodedTwice(line []byte) (inner []byte, ok bool) {
	line = bytes.TrimSpace(line)
	if !bytes.HasPrefix(line, []byte(`"{`)) || !bytes.HasSuffix(line, []byte(`}"`)) && !bytes.HasSuffix(line, []byte(`\n"`)) {
		return nil, false
	}
	var text string
	if json.Unmarshal(line, &text) != nil {
		return nil, false
	}
	return []byte(text), true
}
