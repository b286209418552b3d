package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// ErrBadParams is wrapped by every error of DecodeRunParams.
var ErrBadParams = errors.New("not the params of task/run")

// DecodeRunParams reads the params of a task/run, the reverse of AppendTaskRun
// (P20). Record aliases raw. A delivery and a record are required; an attempt
// that is absent is 1. Every error wraps ErrBadParams.
func DecodeRunParams(raw []byte) (RunParams, error) {
	if at := invalidUTF8(raw); at >= 0 {
		return RunParams{}, fmt.Errorf("%w: not UTF-8 at byte %d", ErrBadParams, at)
	}
	s := newScan(raw)
	p := s.runParams(1)
	if s.Problem != "" {
		return RunParams{}, fmt.Errorf("%w: %s at byte %d", ErrBadParams, s.Problem, s.Pos)
	}
	return p, nil
}

// decodeTaskRun reads a task/run in the form in which AppendTaskRun writes it,
// the id first and nothing beside the params: in one pass, where DecodeMessage
// and DecodeRunParams take one each. ok is false for whatever else, be it right
// or wrong: those two say which. id and Record alias line.
func decodeTaskRun(line []byte) (id []byte, p RunParams, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte(`{"jsonrpc":"2.0","id":`))
	digits := 0
	for digits < len(rest) && rest[digits]-'0' <= 9 {
		digits++
	}
	if !found || digits == 0 || digits > MaxIDBytes || rest[0] == '0' {
		return nil, p, false
	}
	id = rest[:digits]
	params, found := bytes.CutPrefix(rest[digits:], []byte(`,"method":"task/run","params":`))
	if !found || len(params) == 0 || params[len(params)-1] != '}' || !utf8.Valid(params) {
		return nil, p, false
	}
	s := newScan(params[:len(params)-1])
	p = s.runParams(2)
	return id, p, s.Problem == ""
}

// runParams reads the params, whose members stand in depth containers.
func (s *scan) runParams(depth int) (p RunParams) {
	s.Space()
	if !s.Expect('{', "expected an object") {
		return p
	}
	var seen members
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		switch string(name) {
		case "delivery":
			seen.add(s, 0)
			p.Delivery = string(s.optionalText("the delivery"))
		case "record":
			seen.add(s, 1)
			start := s.Pos
			if s.value(depth) {
				p.Record = s.Data[start:s.Pos]
			}
		case "attempt":
			seen.add(s, 2)
			p.Attempt = int(s.integer("the attempt", 32))
		case "deadlineUnixMs":
			seen.add(s, 3)
			p.DeadlineUnixMs = s.integer("deadlineUnixMs", 64)
		case "_meta":
			seen.add(s, 4)
			p.Traceparent = s.meta(depth + 1)
		case "inputs":
			seen.add(s, 5)
			p.Inputs = s.inputs(depth + 1)
		default:
			s.value(depth)
		}
		if s.Problem != "" {
			return p
		}
	}
	switch {
	case s.Problem != "" || !s.End():
	case p.Delivery == "":
		s.Fail("no delivery")
	case p.Record == nil:
		s.Fail("no record")
	}
	if p.Attempt == 0 {
		p.Attempt = 1
	}
	return p
}

// meta reads the traceparent of _meta.
func (s *scan) meta(depth int) (traceparent string) {
	if s.Peek() == 'n' {
		s.Literal("null")
		return ""
	}
	if !s.Expect('{', "_meta is not an object") {
		return ""
	}
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		if string(name) == "traceparent" {
			traceparent = string(s.optionalText("the traceparent"))
		} else {
			s.value(depth)
		}
		if s.Problem != "" {
			return ""
		}
	}
	return traceparent
}

// integer reads a whole number that is not negative, or null as 0.
func (s *scan) integer(what string, bits int) int64 {
	if s.Peek() == 'n' {
		s.Literal("null")
		return 0
	}
	start := s.Pos
	if c := s.Peek(); c < '0' || c > '9' || !s.Number() {
		s.Fail(what + " is not a whole number")
		return 0
	}
	n, err := strconv.ParseInt(string(s.Data[start:s.Pos]), 10, bits)
	if err != nil {
		s.Pos = start
		s.Fail(what + " is not a whole number")
	}
	return n
}
