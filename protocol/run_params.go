package protocol

import (
	"errors"
	"fmt"
	"strconv"
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
	s := scan{b: raw}
	p := s.runParams()
	if s.msg != "" {
		return RunParams{}, fmt.Errorf("%w: %s at byte %d", ErrBadParams, s.msg, s.i)
	}
	return p, nil
}

func (s *scan) runParams() (p RunParams) {
	s.space()
	if !s.expect('{', "expected an object") {
		return p
	}
	var seen members
	for name, more := s.member(true); more; name, more = s.member(false) {
		switch string(name) {
		case "delivery":
			seen.add(s, 0)
			p.Delivery = string(s.optionalText("the delivery"))
		case "record":
			seen.add(s, 1)
			start := s.i
			if s.value(1) {
				p.Record = s.b[start:s.i]
			}
		case "attempt":
			seen.add(s, 2)
			p.Attempt = int(s.integer("the attempt", 32))
		case "deadlineUnixMs":
			seen.add(s, 3)
			p.DeadlineUnixMs = s.integer("deadlineUnixMs", 64)
		case "_meta":
			seen.add(s, 4)
			p.Traceparent = s.meta()
		case "inputs":
			seen.add(s, 5)
			p.Inputs = s.inputs()
		default:
			s.value(1)
		}
		if s.msg != "" {
			return p
		}
	}
	switch {
	case s.msg != "" || !s.end():
	case p.Delivery == "":
		s.fail("no delivery")
	case p.Record == nil:
		s.fail("no record")
	}
	if p.Attempt == 0 {
		p.Attempt = 1
	}
	return p
}

// meta reads the traceparent of _meta.
func (s *scan) meta() (traceparent string) {
	if s.peek() == 'n' {
		s.literal("null")
		return ""
	}
	if !s.expect('{', "_meta is not an object") {
		return ""
	}
	for name, more := s.member(true); more; name, more = s.member(false) {
		if string(name) == "traceparent" {
			traceparent = string(s.optionalText("the traceparent"))
		} else {
			s.value(2)
		}
		if s.msg != "" {
			return ""
		}
	}
	return traceparent
}

// integer reads a whole number that is not negative, or null as 0.
func (s *scan) integer(what string, bits int) int64 {
	if s.peek() == 'n' {
		s.literal("null")
		return 0
	}
	start := s.i
	if c := s.peek(); c < '0' || c > '9' || !s.number() {
		s.fail(what + " is not a whole number")
		return 0
	}
	n, err := strconv.ParseInt(string(s.b[start:s.i]), 10, bits)
	if err != nil {
		s.i = start
		s.fail(what + " is not a whole number")
	}
	return n
}
