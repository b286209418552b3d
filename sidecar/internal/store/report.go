package store

import (
	"bytes"
	"context"
	_ "embed" // the script
	"encoding/json"
	"strconv"
	"time"
)

//go:embed report.lua
var reportLua string
var reportScript = script(reportLua)

// Report ends a batch of deliveries with one call to Redis; each report is
// decided alone, and the verdicts come in the order of the batch. Either all
// of them are applied or, with an error, it is unknown which: repeat the call,
// and what was applied answers [Late]. The run need not be a member (any
// more), so that outcomes kept over a restart still count as long as nobody
// has returned their records to the queue.
//
// A batch's values travel in one command: keep them well below the 512 MB that
// Redis takes.
func (s *Store) Report(ctx context.Context, run string, batch []Report) ([]Verdict, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	size := 0
	for i := range batch {
		size += batch[i].RecordSize
	}
	args := make([]any, 0, 3+9*len(batch))
	args = append(args, countedKeep.Milliseconds(), len(batch), size)
	for i := range batch {
		args = s.appendReport(args, &batch[i])
	}
	reply, err := s.call(ctx, reportScript, run, s.keys.inflight(run), args...).StringSlice()
	if err != nil {
		return nil, failure("report", err)
	}
	if len(reply) != len(batch) {
		return nil, failure("report", errReply)
	}
	verdicts := make([]Verdict, len(reply))
	for i, v := range reply {
		verdicts[i] = Verdict(v)
	}
	return verdicts, nil
}

func (s *Store) appendReport(args []any, r *Report) []any {
	valueKey := ""
	if s.o.StoreValues && r.Value != nil && r.TaskID != "" {
		valueKey = resultKey(r.SessionID, r.TaskID)
	}
	args = append(args, r.Delivery, r.TaskID, r.GroupID, r.TaskID+"\x00"+r.CreatedAt, completion(r), valueKey, r.Value, r.RecordSHA)
	if r.Dead == nil {
		return append(args, "")
	}
	at := orNow(r.Dead.At)
	return append(args, "dead", r.Dead.Record, r.Dead.Reason, r.Dead.Message, r.Dead.Stderr, r.Dead.Attempts,
		at.UTC().Format(time.RFC3339Nano), at.UnixMilli(), r.SessionID)
}

// completion is Graflow's completion record (record_task_completion in its
// coordination/redis_coordinator.py). A dead letter's is a failure with the
// letter's message, unless the report has one of its own.
func completion(r *Report) []byte {
	if r.GroupID == "" {
		return nil // nobody reads it
	}
	message := r.ErrorMessage
	if r.Dead != nil && message == "" {
		message = r.Dead.Message
	}
	success := r.Success && r.Dead == nil
	b := make([]byte, 0, 96+len(r.TaskID)+len(message)+len(r.ErrorJSON))
	b = append(b, `{"task_id":`...)
	b = appendQuoted(b, r.TaskID)
	b = append(b, `,"success":`...)
	b = strconv.AppendBool(b, success)
	b = append(b, `,"timestamp":`...)
	b = strconv.AppendFloat(b, float64(orNow(r.Timestamp).UnixMicro())/1e6, 'f', 6, 64)
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
