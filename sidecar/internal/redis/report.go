package redis

import (
	"bytes"
	"context"
	_ "embed" // the script
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

//go:embed report.lua
var reportLua string
var reportScript = script(reportLua)

// Report ends a batch of deliveries with one call to Redis; each report is
// decided alone, and the verdicts come in the order of the batch. Either all
// of them are applied or, with an error, it is unknown which: repeat the call,
// and what was applied answers [Late], or [Stale] where the run is no member any
// more. The run need not be a member (any
// more), so that outcomes kept over a restart still count as long as nobody
// has returned their records to the queue.
//
// A batch's values travel in one command: keep them to a few megabytes, or one
// value. A [RejectedError] says that something in the batch is never taken, and
// that nothing of the batch was changed.
func (s *Store) Report(ctx context.Context, run string, batch []Report) ([]Verdict, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	size := 0
	for i := range batch {
		size += batch[i].RecordSize
	}
	args := append(s.argv(run, 3+9*len(batch)), countedKeep.Milliseconds(), len(batch), size)
	made := makeTexts(batch)
	for i := range batch {
		args = s.appendReport(args, &batch[i], &made[i])
	}
	reply, err := s.callWith(ctx, reportScript, s.keys.inflight(run), args).Text()
	if err != nil {
		return nil, failure("report", err)
	}
	verdicts := make([]Verdict, 0, len(batch))
	for v := range strings.SplitSeq(reply, " ") {
		verdicts = append(verdicts, Verdict(v))
	}
	if len(verdicts) != len(batch) {
		return nil, failure("report", errReply)
	}
	return verdicts, nil
}

// reportTexts are what is made for a report.
type reportTexts struct{ name, completion part }

// part is an argument that is a part of a larger text. A pointer to it put into an
// interface, as one to a string, needs no memory of its own.
type part []byte

func (p *part) MarshalBinary() ([]byte, error) { return *p, nil }

// makeTexts makes those of a batch, as parts of one text.
func makeTexts(batch []Report) []reportTexts {
	size := 0
	for i := range batch {
		r := &batch[i]
		size += 128 + 2*len(r.TaskID) + len(r.CreatedAt) + len(r.ErrorMessage) + len(r.ErrorJSON)
	}
	b := make([]byte, 0, size)
	ends := make([]int, 0, 2*len(batch))
	for i := range batch {
		r := &batch[i]
		b = append(append(append(b, r.TaskID...), 0), r.CreatedAt...)
		ends = append(ends, len(b))
		b = appendCompletion(b, r)
		ends = append(ends, len(b))
	}
	made, from := make([]reportTexts, len(batch)), 0
	for i := range made {
		made[i] = reportTexts{b[from:ends[2*i]], b[ends[2*i]:ends[2*i+1]]}
		from = ends[2*i+1]
	}
	return made
}

var nothing = ""

// appendReport appends what report.lua reads of one report, texts as pointers:
// there are nearly a million of them a second.
func (s *Store) appendReport(args []any, r *Report, made *reportTexts) []any {
	args = append(args, &r.Delivery, &r.TaskID, &r.GroupID, &made.name, &made.completion)
	if s.o.StoreValues && r.Value != nil && r.TaskID != "" {
		args = append(args, resultKey(r.SessionID, r.TaskID), r.Value)
	} else {
		args = append(args, &nothing, &nothing)
	}
	args = append(args, &r.RecordSHA)
	if r.Dead == nil {
		return append(args, &nothing)
	}
	at := orNow(r.Dead.At)
	return append(args, "dead", r.Dead.Reason, r.Dead.Message, r.Dead.Stderr, r.Dead.Attempts,
		at.UTC().Format(time.RFC3339Nano), at.UnixMilli(), r.SessionID)
}

// appendCompletion appends Graflow's completion record (record_task_completion in its
// coordination/redis_coordinator.py). A dead letter's is a failure with the
// letter's message, unless the report has one of its own.
func appendCompletion(b []byte, r *Report) []byte {
	if r.GroupID == "" {
		return b // nobody reads it
	}
	message := r.ErrorMessage
	if r.Dead != nil && message == "" {
		message = r.Dead.Message
	}
	success := r.Success && r.Dead == nil
	b = append(b, `{"task_id":`...)
	b = appendQuoted(b, r.TaskID)
	b = append(b, `,"success":`...)
	b = strconv.AppendBool(b, success)
	b = append(b, `,"timestamp":`...)
	b = appendSeconds(b, orNow(r.Timestamp))
	b = append(b, `,"error_message":`...)
	switch {
	case success:
		b = append(b, "null"...)
	case len(r.ErrorJSON) > 0:
		b = append(b, r.ErrorJSON...)
	default:
		b = appendQuoted(b, message)
	}
	return append(b, '}')
}

// appendSeconds appends a time as seconds since 1970, with microseconds.
func appendSeconds(b []byte, t time.Time) []byte {
	micros := t.UnixMicro()
	if micros < 0 {
		return strconv.AppendFloat(b, float64(micros)/1e6, 'f', 6, 64)
	}
	b = strconv.AppendInt(b, micros/1e6, 10)
	b = append(b, '.')
	for unit := int64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+micros/unit%10))
	}
	return b
}

// appendQuoted appends text as JSON. It cannot fail: bytes that are not UTF-8
// become U+FFFD.
func appendQuoted(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return append(b, quote(text)...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

func quote(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string into a buffer
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
