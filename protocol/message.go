package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// IDWindow is how many bytes of a message may pass before its id has been
// written (P11): of a message that is cut or broken, its first bytes still tell
// which request it answers.
const IDWindow = 256

// MaxIDBytes is the longest id, in bytes of its JSON token (P10).
const MaxIDBytes = 128

// ErrNotMessage is wrapped by every error of DecodeMessage.
var ErrNotMessage = errors.New("not a message")

// Message is one JSON-RPC message. Its slices alias the line that it was
// decoded from.
type Message struct {
	// ID is the id's JSON token, byte for byte; nil if there is none. An id
	// of null, which only an error response may have, is "null".
	ID []byte
	// Method is empty in a response.
	Method string
	// Params and Result are raw JSON; nil if absent.
	Params, Result []byte
	// Error is the error of a response, else nil.
	Error *Error
}

// IsRequest reports whether m wants an answer.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != nil }

// IsNotification reports whether m wants no answer.
func (m *Message) IsNotification() bool { return m.Method != "" && m.ID == nil }

// IsResponse reports whether m answers a request.
func (m *Message) IsResponse() bool { return m.Method == "" }

// The members of a message, as bits: each may occur once (P12).
const (
	seenVersion = 1 << iota
	seenID
	seenMethod
	seenParams
	seenResult
	seenError
)

// DecodeMessage reads one message from a line (without its line end). It is
// strict: the whole line must be one JSON object in UTF-8, nested at most
// MaxDepth deep, with "jsonrpc":"2.0" and the members of either a request, a
// notification or a response, none of these twice; members that it does not
// know are checked and ignored (P9, P10, P12). The slices of the Message alias
// line. Every error wraps ErrNotMessage and says what is wrong and where.
func DecodeMessage(line []byte) (Message, error) {
	if at := invalidUTF8(line); at >= 0 {
		return Message{}, notMessage("not UTF-8", at)
	}
	s := newScan(line)
	m, seen := s.message()
	if s.Problem == "" {
		check(&s, &m, seen)
	}
	if s.Problem != "" {
		return Message{}, notMessage(s.Problem, s.Pos)
	}
	return m, nil
}

func notMessage(what string, at int) error {
	return fmt.Errorf("%w: %s at byte %d", ErrNotMessage, what, at)
}

// message reads the members; whether they make a message is for check to say.
func (s *scan) message() (m Message, seen int) {
	s.Space()
	if !s.Expect('{', "expected an object") {
		return m, 0
	}
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		start, bit := s.Pos, 0
		switch string(name) {
		case "jsonrpc":
			bit = seenVersion
			if s.Peek() != '"' {
				s.Fail(`jsonrpc is not "2.0"`)
			} else if v, ok := s.Text(); ok && string(v) != "2.0" {
				s.Pos = start
				s.Fail(`jsonrpc is not "2.0"`)
			}
		case "id":
			bit = seenID
			m.ID = s.id()
		case "method":
			bit = seenMethod
			if s.Peek() != '"' {
				s.Fail("the method is not a string")
			} else if v, ok := s.Text(); ok {
				if m.Method = methodName(v); m.Method == "" {
					s.Fail("the method is empty")
				}
			}
		case "params":
			bit = seenParams
			if c := s.Peek(); c != '{' && c != '[' {
				s.Fail("the params are neither an object nor an array")
			} else if s.value(1) {
				m.Params = s.Data[start:s.Pos]
			}
		case "result":
			bit = seenResult
			if s.value(1) {
				m.Result = s.Data[start:s.Pos]
			}
		case "error":
			bit = seenError
			m.Error = s.rpcError()
		default:
			s.value(1)
		}
		if seen&bit != 0 {
			s.Pos = start
			s.Fail("a member occurs twice: " + string(name))
		}
		if s.Problem != "" {
			return m, seen
		}
		seen |= bit
	}
	if s.Problem == "" {
		s.End()
	}
	return m, seen
}

// check says which sets of members are a message.
func check(s *scan, m *Message, seen int) {
	null := string(m.ID) == "null"
	switch {
	case seen&seenVersion == 0:
		s.Fail(`no "jsonrpc":"2.0"`)
	case seen&seenMethod != 0:
		switch {
		case seen&(seenResult|seenError) != 0:
			s.Fail("both a method and a result or error")
		case null:
			s.Fail("the id of a request is null")
		}
	case seen&seenResult != 0 && seen&seenError != 0:
		s.Fail("both a result and an error")
	case seen&(seenResult|seenError) == 0:
		s.Fail("neither a method nor a result nor an error")
	case seen&seenParams != 0:
		s.Fail("a response with params")
	case seen&seenID == 0:
		s.Fail("a response without an id")
	case null && seen&seenResult != 0:
		s.Fail("the id of a result is null")
	}
}

// id reads an id: a number, a string or null.
func (s *scan) id() []byte {
	start := s.Pos
	switch c := s.Peek(); {
	case c == '"' || c == '-' || c == 'n' || c >= '0' && c <= '9':
		if !s.value(1) {
			return nil
		}
	default:
		s.Fail("the id is neither a number nor a string")
		return nil
	}
	if s.Pos-start > MaxIDBytes {
		s.Pos = start
		s.Fail("the id is longer than " + strconv.Itoa(MaxIDBytes) + " bytes")
		return nil
	}
	return s.Data[start:s.Pos]
}

// rpcError reads the error of a response. Errors are rare, so that encoding/json
// may fill it in once the text is known to be valid.
func (s *scan) rpcError() *Error {
	start := s.Pos
	if s.Peek() != '{' {
		s.Fail("the error is not an object")
		return nil
	}
	if !s.value(1) {
		return nil
	}
	end := s.Pos
	var members map[string]json.RawMessage
	var e Error
	bad := func(what string) *Error {
		s.Pos = start
		s.Fail(what)
		return nil
	}
	if err := json.Unmarshal(s.Data[start:end], &members); err != nil {
		return bad("the error cannot be read")
	}
	code := string(members["code"])
	n, err := strconv.ParseInt(code, 10, 32)
	if err != nil {
		return bad("the error's code is not an integer of 32 bits")
	}
	e.Code = Code(n)
	message, ok := members["message"]
	if !ok || message[0] != '"' || json.Unmarshal(message, &e.Message) != nil {
		return bad("the error's message is not a string")
	}
	e.Data = members["data"]
	return &e
}

// LooksLikeMessage reports whether a line was meant as a message: it begins
// with { after optional spaces and contains "jsonrpc", and not only within a member
// of a whole object. What does not is a print (P5); what does and cannot be decoded
// is a fault (P6). The first bytes of an over-long line serve as well as a whole
// one.
func LooksLikeMessage(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	if len(line) == 0 || line[0] != '{' || !bytes.Contains(line, []byte(`"jsonrpc"`)) {
		return false
	}
	var o objectScan
	_, state := o.feed(line)
	return state != scanClosed || o.version
}
