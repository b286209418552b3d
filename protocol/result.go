package protocol

import (
	"bytes"
	"errors"
	"fmt"
)

// The values of RunResult.Status.
const (
	StatusSucceeded = "succeeded"
	StatusFailed    = "failed"
)

// ErrBadResult is wrapped by every error of DecodeRunResult.
var ErrBadResult = errors.New("not a result of task/run")

// TaskError says why a task failed (P23).
type TaskError struct {
	// Type is the kind of error, such as the name of its class.
	Type string
	// Message is what the producer is told.
	Message string
	// RawMessage is the message as DecodeRunResult found it: a JSON string that
	// aliases what was decoded. It differs from Message where Go's strings
	// cannot hold what JSON can: the lone surrogates that Python makes of bytes
	// that are not UTF-8. AppendRunResult does not use it.
	RawMessage []byte
	// Stack is for the log.
	Stack string
	// Retryable asks for another delivery after a delay instead of the report
	// of a failure (P24).
	Retryable bool
}

// RunResult is the result of task/run (P23).
type RunResult struct {
	// Status is StatusSucceeded or StatusFailed.
	Status string
	// Value is raw JSON; nil if the task gave none.
	Value []byte
	// ValueText is a value that is not strict JSON or would not survive it
	// (P25); empty if there is none. Never both it and Value.
	ValueText string
	// Err is set when, and only when, the status is StatusFailed.
	Err *TaskError
}

// AppendRunResult appends r as JSON to dst and returns it: the result member of
// the answer to a task/run.
func AppendRunResult(dst []byte, r RunResult) []byte {
	dst = append(dst, `{"status":`...)
	dst = appendString(dst, r.Status)
	if len(r.Value) > 0 {
		dst = append(dst, `,"value":`...)
		dst = appendFlat(dst, r.Value)
	} else if r.ValueText != "" {
		dst = append(dst, `,"valueText":`...)
		dst = appendString(dst, r.ValueText)
	}
	if e := r.Err; e != nil {
		dst = append(dst, `,"error":{"type":`...)
		dst = appendString(dst, e.Type)
		dst = append(dst, `,"message":`...)
		dst = appendString(dst, e.Message)
		if e.Stack != "" {
			dst = append(dst, `,"stack":`...)
			dst = appendString(dst, e.Stack)
		}
		dst = append(dst, `,"retryable":`...)
		if e.Retryable {
			dst = append(dst, "true"...)
		} else {
			dst = append(dst, "false"...)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// DecodeSucceeded reads the answer to a task/run that gave no value, in the very
// form in which the SDKs write it: most answers of most workers are that. ok is
// false for whatever else, be it right or wrong; DecodeMessage says which.
func DecodeSucceeded(line []byte) (id int64, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte(`{"jsonrpc":"2.0","id":`))
	digits, end := bytes.CutSuffix(rest, []byte(`,"result":{"status":"succeeded"}}`))
	const most = 18 // digits of an int64, however large
	if !found || !end || len(digits) == 0 || len(digits) > most || digits[0] == '0' {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		id = 10*id + int64(c-'0')
	}
	return id, true
}

// DecodeRunResult reads the result of a task/run (P23 to P25): strict JSON, a
// known status, an error when and only when that is "failed", at most one of
// value and valueText. Members of null count as absent, but for value; unknown
// ones are ignored. Value aliases raw. Every error wraps ErrBadResult.
func DecodeRunResult(raw []byte) (RunResult, error) {
	if string(raw) == `{"status":"succeeded"}` {
		return RunResult{Status: StatusSucceeded}, nil
	}
	if at := invalidUTF8(raw); at >= 0 {
		return RunResult{}, fmt.Errorf("%w: not UTF-8 at byte %d", ErrBadResult, at)
	}
	s := newScan(raw)
	r := s.runResult()
	if s.Problem != "" {
		return RunResult{}, fmt.Errorf("%w: %s at byte %d", ErrBadResult, s.Problem, s.Pos)
	}
	return r, nil
}

func (s *scan) runResult() (r RunResult) {
	s.Space()
	if !s.Expect('{', "expected an object") {
		return r
	}
	var seen members
	hasText := false
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		switch string(name) {
		case "status":
			seen.add(s, 0)
			switch status := s.optionalText("the status"); string(status) {
			case StatusSucceeded:
				r.Status = StatusSucceeded
			case StatusFailed:
				r.Status = StatusFailed
			default:
				s.Fail("the status is neither succeeded nor failed")
			}
		case "value":
			seen.add(s, 1)
			start := s.Pos
			if s.value(1) {
				r.Value = s.Data[start:s.Pos]
			}
		case "valueText":
			seen.add(s, 2)
			hasText = s.Peek() == '"'
			r.ValueText = string(s.optionalText("valueText"))
		case "error":
			seen.add(s, 3)
			r.Err = s.taskError()
		default:
			s.value(1)
		}
		if s.Problem != "" {
			return r
		}
	}
	switch {
	case s.Problem != "" || !s.End():
	case r.Status == "":
		s.Fail("no status")
	case r.Value != nil && hasText:
		s.Fail("both a value and a valueText")
	case hasText && r.ValueText == "":
		s.Fail("an empty valueText")
	case r.Status == StatusFailed && r.Err == nil:
		s.Fail("failed without an error")
	case r.Status == StatusFailed && (r.Value != nil || hasText):
		s.Fail("failed with a value")
	case r.Status == StatusSucceeded && r.Err != nil:
		s.Fail("succeeded with an error")
	}
	return r
}

// taskError reads the error of a failed task; nil for null.
func (s *scan) taskError() *TaskError {
	if s.Peek() == 'n' {
		s.Literal("null")
		return nil
	}
	if !s.Expect('{', "the error is not an object") {
		return nil
	}
	var e TaskError
	var seen members
	hasMessage := false
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		switch string(name) {
		case "type":
			seen.add(s, 0)
			e.Type = string(s.optionalText("the error's type"))
		case "message":
			seen.add(s, 1)
			hasMessage = s.Peek() == '"'
			from := s.Pos
			e.Message = string(s.optionalText("the error's message"))
			if hasMessage && s.Problem == "" {
				e.RawMessage = s.Data[from:s.Pos]
			}
		case "stack":
			seen.add(s, 2)
			e.Stack = string(s.optionalText("the error's stack"))
		case "retryable":
			seen.add(s, 3)
			switch s.Peek() {
			case 't':
				e.Retryable = s.Literal("true")
			case 'f':
				s.Literal("false")
			case 'n':
				s.Literal("null")
			default:
				s.Fail("retryable is neither true nor false")
			}
		default:
			s.value(2)
		}
		if s.Problem != "" {
			return nil
		}
	}
	if s.Problem == "" && !hasMessage {
		s.Fail("an error without a message")
	}
	return &e
}

// members says which of an object's known members have been seen.
type members uint8

// add marks a member, and fails if it was seen before (P12).
func (m *members) add(s *scan, bit uint) {
	if *m&(1<<bit) != 0 {
		s.Fail("a member occurs twice")
	}
	*m |= 1 << bit
}

// optionalText reads a string, or null as nothing.
func (s *scan) optionalText(what string) []byte {
	switch s.Peek() {
	case '"':
		text, _ := s.Text()
		return text
	case 'n':
		s.Literal("null")
	default:
		s.Fail(what + " is not a string")
	}
	return nil
}
