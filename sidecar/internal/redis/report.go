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

// Report ends a batch of deliveries with one call to Redis. It decides each report
// separately and returns the verdicts in the order of the batch. After an error it is
// unknown whether all of them or none were applied: repeat the call. Reports that were
// applied then return [NotInFlight], or [Stale] if the run is not a member any more. The
// run need not be a member, so that outcomes kept over a restart count as long as their
// records were not requeued.
//
// The values of a batch are sent in one command: a batch should have a few megabytes of
// them at most, or one value. A [RejectedError] means that something in the batch is
// never accepted, and that nothing of the batch was changed.
func (s *Store) Report(ctx context.Context, run string, batch []Report) ([]Verdict, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	size := 0
	for i := range batch {
		size += batch[i].RecordSize
	}
	args := append(s.argv(run, 4+9*len(batch)), countedKeep.Milliseconds(), len(batch), size, ms(s.o.ResultTTL))
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

// reportTexts are the computed texts of a report.
type reportTexts struct{ name, completion part }

// part is an argument that is a part of a larger text. A pointer to it can be stored in
// an interface without an allocation.
type part []byte

func (p *part) MarshalBinary() ([]byte, error) { return *p, nil }

// makeTexts computes the texts of a batch, as parts of one text.
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

var nothing, expires = "", "expires"

// appendReport appends the arguments of one report for report.lua. It appends pointers to
// texts: there are nearly a million of them a second.
func (s *Store) appendReport(args []any, r *Report, made *reportTexts) []any {
	args = append(args, &r.Delivery, &r.TaskID, &r.GroupID, &made.name, &made.completion)
	kind := &nothing
	switch {
	case r.Value == nil || r.TaskID == "" || r.SessionID != "" && !s.o.StoreValues:
		args = append(args, &nothing, &nothing)
	default:
		args = append(args, s.keys.result(r.SessionID, r.TaskID), r.Value)
		if r.SessionID == "" && s.o.ResultTTL > 0 {
			kind = &expires
		}
	}
	args = append(args, &r.RecordSHA)
	if r.Dead == nil {
		return append(args, kind)
	}
	at := orNow(r.Dead.At)
	return append(args, "dead", r.Dead.Reason, r.Dead.Message, r.Dead.Stderr, r.Dead.Attempts,
		at.UTC().Format(time.RFC3339Nano), at.UnixMilli(), r.SessionID)
}

// appendCompletion appends Graflow's completion record (record_task_completion in its
// coordination/redis_coordinator.py). A dead letter's completion is a failure with the
// message of the report, or else of the letter.
func appendCompletion(b []byte, r *Report) []byte {
	if r.GroupID == "" {
		return b // no group, no completion
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

// appendQuoted appends text as JSON. It cannot fail: bytes that are not UTF-8 become
// U+FFFD.
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
	_ = e.Encode(text) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
