package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/protocol"
)

// always are the checks of everything that a worker sends, in any dialogue.
var always = []Result{
	{Check: "always/framing", Rules: []string{"P2", "P3", "P59"}, Requires: "a message is one line of UTF-8: no byte order mark, no CR inside, no second message"},
	{Check: "always/line-length", Rules: []string{"P4"}, Requires: "no line is longer than maxMessageBytes"},
	{Check: "always/valid", Rules: []string{"P6", "P9", "P12"}, Requires: "what is meant as a message is a valid one: JSON-RPC 2.0, no member twice, not nested too deep"},
	{Check: "always/last-line", Rules: []string{"P7"}, Requires: "the last line has its line end too"},
	{Check: "always/same-id", Rules: []string{"P10"}, Requires: "an answer repeats the id byte for byte"},
	{Check: "always/id-first", Rules: []string{"P11"}, Requires: "the id stands within the first 256 bytes of a message"},
	{Check: "always/greeting-first", Rules: []string{"P15"}, Requires: "nothing but log comes before the answer to initialize"},
	{Check: "always/one-answer", Rules: []string{"P22", "P51"}, Requires: "no request is answered twice, and nothing that was not asked"},
	{Check: "always/results", Rules: []string{"P23"}, Requires: "the result of a task has a status, then value or valueText, or an error with a message"},
	{Check: "always/exact-values", Rules: []string{"P25"}, Requires: "NaN, Infinity and integers beyond 2^53 are sent as valueText"},
	{Check: "always/task-errors", Rules: []string{"P28"}, Requires: "a task is answered with a result; −32800 is for a cancelled one, −32001 for a worker that stops, any other error for a broken one"},
	{Check: "always/deliveries", Rules: []string{"P27"}, Requires: "what is sent about a task carries its delivery"},
	{Check: "always/telling", Rules: []string{"P42", "P43"}, Requires: "$/progress has a fraction from 0 to 1, log a level and a message"},
	{Check: "always/waiting", Rules: []string{"P44"}, Requires: "$/resumed comes after $/waiting"},
	{Check: "always/capabilities", Rules: []string{"P45"}, Requires: "channels are used only with the capability channels"},
}

// judge collects what was seen of the always checks, in all dialogues. Its
// methods may be called concurrently.
type judge struct {
	mu       sync.Mutex
	seen     map[string]bool   // checks for which there was something to judge
	failures map[string]string // the first one of each
	prints   int

	firstPrint string
}

func newJudge() *judge {
	return &judge{seen: map[string]bool{}, failures: map[string]string{}}
}

// failed notes that a check failed.
func (j *judge) failed(check, seen string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen[check] = true
	if j.failures[check] == "" {
		j.failures[check] = seen
	}
}

// require notes that a check had something to judge, and fails it unless ok.
func (j *judge) require(check string, ok bool, seen string) {
	if !ok {
		j.failed(check, seen)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen[check] = true
}

func (j *judge) printed(line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.prints++
	if j.firstPrint == "" {
		j.firstPrint = clip(line)
	}
}

// results are those of the always checks.
func (j *judge) results() []Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Result
	for _, r := range always {
		switch failure := j.failures[r.Check]; {
		case failure != "":
			r.Status, r.Seen = Failed, failure
		case j.seen[r.Check]:
			r.Status = Passed
		default:
			r.Status, r.Seen = NotChecked, "the worker sent nothing of the kind in these dialogues"
		}
		all = append(all, r)
	}
	return all
}

var (
	byteOrderMark = []byte("\xEF\xBB\xBF")
	// notJSON are the values that Python and others write though JSON has no
	// such thing.
	notJSON = regexp.MustCompile(`-?\b(?:NaN|Infinity|nan|inf)\b`)
)

// line reads one line and judges its form. It is more forgiving than the sidecar:
// a worker with one fault can then be tested for others.
func (j *judge) line(c *connection, line []byte) []*protocol.Message {
	c.judgedLength(j, line)
	if len(bytes.TrimSpace(line)) == 0 {
		return nil // P5
	}
	m, err := protocol.DecodeMessage(line)
	if err == nil {
		j.require("always/framing", !bytes.ContainsRune(line, '\r'), "a CR inside "+clip(line))
		j.require("always/valid", true, "")
		j.require("always/last-line", true, "")
		j.judgeID(line, &m)
		m = cloneMessage(m)
		return []*protocol.Message{&m}
	}
	if at := bytes.Index(line, []byte(`{"jsonrpc"`)); at > 0 && isPrint(line[:at]) {
		j.failed("always/framing", "a print without a line end before a message, which is lost: "+clip(line))
		return j.line(c, line[at:])
	}
	loose := looseMessages(line)
	if len(loose) == 0 || !protocol.LooksLikeMessage(line) {
		for _, m := range c.finder.Line(line) {
			if m.Flaw != "" && (m.Method == "" || protocol.IsTaskRequest(m.Method)) && len(loose) == 0 {
				j.failed("always/framing", "no message, since "+m.Flaw+": "+clip(line))
				return nil
			}
		}
	}
	if len(loose) == 0 && !protocol.LooksLikeMessage(line) {
		j.printed(line)
		return nil
	}
	switch fixed := notJSON.ReplaceAll(line, []byte("0")); {
	case !utf8.Valid(line):
		j.failed("always/framing", "bytes that are not UTF-8 in "+clip(line))
	case bytes.HasPrefix(line, byteOrderMark):
		j.failed("always/framing", "a byte order mark before "+clip(line))
	case len(loose) > 1:
		j.failed("always/framing", "several messages on the line "+clip(line))
	case len(loose) == 0 && json.Valid(fixed):
		j.failed("always/exact-values", "no JSON: "+clip(line))
		return looseMessages(fixed)
	case !protocol.LooksLikeMessage(line):
		j.failed("always/valid", `without "jsonrpc":"2.0" the sidecar takes it for a print: `+clip(line))
	default:
		j.failed("always/valid", err.Error()+": "+clip(line))
	}
	return loose
}

// isPrint reports whether what stands in front of a message is text: no space, byte
// order mark or bracket of a batch, and not another object.
func isPrint(front []byte) bool {
	front = bytes.TrimSpace(protocol.TrimByteOrderMark(front))
	return len(front) > 0 && front[0] != '{' && string(front) != "["
}

func (c *connection) judgedLength(j *judge, line []byte) {
	j.require("always/line-length", len(line) <= c.limit,
		fmt.Sprintf("a line of %d bytes where maxMessageBytes is %d", len(line), c.limit))
}

// judgeID checks where the id of a valid message stands.
func (j *judge) judgeID(line []byte, m *protocol.Message) {
	if m.ID == nil || string(m.ID) == "null" {
		return
	}
	found, ok := protocol.FindID(line[:min(len(line), protocol.IDWindow)])
	j.require("always/id-first", ok && bytes.Equal(found, m.ID), "no id in the first 256 bytes of "+clip(line))
}

// looseMessages finds objects with the members of messages on a line that is not
// a message.
func looseMessages(line []byte) []*protocol.Message {
	line = bytes.TrimPrefix(line, byteOrderMark)
	dec := json.NewDecoder(bytes.NewReader(line))
	var all []*protocol.Message
	for {
		var o struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  *protocol.Error `json:"error"`
		}
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			return nil
		}
		m := &protocol.Message{ID: o.ID, Method: o.Method, Params: o.Params, Result: o.Result, Error: o.Error}
		if m.Method == "" && (m.ID == nil || m.Result == nil && m.Error == nil) {
			return nil
		}
		all = append(all, m)
	}
}

func cloneMessage(m protocol.Message) protocol.Message {
	m.ID, m.Params, m.Result = bytes.Clone(m.ID), bytes.Clone(m.Params), bytes.Clone(m.Result)
	return m
}
