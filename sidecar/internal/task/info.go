package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Info holds the fields of a record that the sidecar uses. Graflow writes task_id,
// session_id, graph_hash, trace_id, created_at, group_id and parent_span_id
// (graflow/coordination/records.py); timeout is for records of other producers.
type Info struct {
	TaskID       string
	SessionID    string
	GraphHash    string
	GroupID      string
	TraceID      string
	ParentSpanID string
	// CreatedAt is the number token of the record, digit for digit. With TaskID it
	// distinguishes two dispatches of the same task.
	CreatedAt string
	// Timeout is the record's own time limit of one execution; zero means none.
	Timeout time.Duration
}

// ErrInvalid is the error that every error of Decode wraps.
var ErrInvalid = errors.New("invalid record")

type wire struct {
	TaskID       *string     `json:"task_id"`
	SessionID    *string     `json:"session_id"`
	GraphHash    *string     `json:"graph_hash"`
	GroupID      *string     `json:"group_id"`
	TraceID      *string     `json:"trace_id"`
	ParentSpanID *string     `json:"parent_span_id"`
	CreatedAt    json.Number `json:"created_at"`
	Timeout      json.Number `json:"timeout"`
}

// Decode decodes a record. A record must be one JSON object in UTF-8 with a non-empty
// task_id; every other field may be missing or null. With an error it still returns the
// fields that it could read, so that a failed completion reaches the group of a record
// that is otherwise unusable.
func Decode(record []byte) (Info, error) {
	if !utf8.Valid(record) {
		return Info{}, fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	if trimmed := bytes.TrimLeft(record, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return Info{}, fmt.Errorf("%w: not a JSON object", ErrInvalid)
	}
	if info, ok := scan(record); ok {
		return info, nil
	}
	return decode(record)
}

// decode is Decode by encoding/json.
func decode(record []byte) (Info, error) {
	var w wire
	err := json.Unmarshal(record, &w)
	info := Info{
		TaskID:       deref(w.TaskID),
		SessionID:    deref(w.SessionID),
		GraphHash:    deref(w.GraphHash),
		GroupID:      deref(w.GroupID),
		TraceID:      deref(w.TraceID),
		ParentSpanID: deref(w.ParentSpanID),
		CreatedAt:    w.CreatedAt.String(),
	}
	if err != nil {
		return info, fmt.Errorf("%w: %s", ErrInvalid, explain(err))
	}
	if info.TaskID == "" {
		return info, fmt.Errorf("%w: no task_id", ErrInvalid)
	}
	if w.Timeout != "" {
		seconds, err := strconv.ParseFloat(w.Timeout.String(), 64)
		if err != nil || seconds < 0 || seconds > maxTimeoutSeconds {
			return info, fmt.Errorf("%w: timeout %s is not a number of seconds", ErrInvalid, w.Timeout)
		}
		info.Timeout = time.Duration(seconds * float64(time.Second))
	}
	return info, nil
}

// explain returns an error of encoding/json in the terms of the record.
func explain(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		must := "a string or null"
		switch {
		case wrong.Field == "task_id":
			must = "a string"
		case wrong.Type == reflect.TypeFor[json.Number]():
			must = "a number or null"
		}
		return fmt.Sprintf("%s is %s, and must be %s", wrong.Field, article(wrong.Value), must)
	}
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("not JSON at byte %d: %v", wrong.Offset, wrong)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// article is a kind of JSON value, as encoding/json names it, with its article.
func article(kind string) string {
	switch word, _, _ := strings.Cut(kind, " "); word {
	case "array", "object":
		return "an " + word
	case "bool":
		return "a boolean"
	default:
		return "a " + word
	}
}

// maxTimeoutSeconds keeps a timeout inside time.Duration: about 290 years.
const maxTimeoutSeconds = 9e9

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Traceparent returns the W3C trace context of the task's parent. It is empty if the ids of
// the record do not have that form: Graflow's own tracers may write task ids as span ids.
func (i Info) Traceparent() string {
	if !isHex(i.TraceID, 32) || !isHex(i.ParentSpanID, 16) {
		return ""
	}
	return "00-" + i.TraceID + "-" + i.ParentSpanID + "-01"
}

func isHex(s string, length int) bool {
	if len(s) != length {
		return false
	}
	zero := true
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
		zero = zero && r == '0'
	}
	return !zero
}
