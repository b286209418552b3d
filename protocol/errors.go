package protocol

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Code is the code of a JSON-RPC error. It is an error itself, so that
//
//	errors.Is(err, protocol.CodeCancelled)
//
// tells what an answer said wherever an *Error is in the chain of err.
type Code int

// The codes of version 1: those of JSON-RPC 2.0, and the protocol's own.
const (
	// CodeParse: the line is not JSON.
	CodeParse Code = -32700
	// CodeInvalidRequest: JSON, but not a request that may be sent now.
	CodeInvalidRequest Code = -32600
	// CodeMethodNotFound: a request of a method that the other side does not
	// have (P13).
	CodeMethodNotFound Code = -32601
	// CodeInvalidParams: the params are not what the method takes.
	CodeInvalidParams Code = -32602
	// CodeInternal: the other side is broken.
	CodeInternal Code = -32603
	// CodeCancelled: the task was given up because of a $/cancelRequest (P31).
	CodeCancelled Code = -32800
	// CodeNotStarted: the worker drains and never started the task (P39).
	CodeNotStarted Code = -32001
	// CodeDeliveryEnded: the delivery named has ended or was never known (P27).
	CodeDeliveryEnded Code = -32002
)

// Error names the code, in words where it is one of the protocol's.
func (c Code) Error() string {
	switch c {
	case CodeParse:
		return "parse error"
	case CodeInvalidRequest:
		return "invalid request"
	case CodeMethodNotFound:
		return "method not found"
	case CodeInvalidParams:
		return "invalid params"
	case CodeInternal:
		return "internal error"
	case CodeCancelled:
		return "cancelled"
	case CodeNotStarted:
		return "not started"
	case CodeDeliveryEnded:
		return "delivery ended or unknown"
	default:
		return "error " + strconv.Itoa(int(c))
	}
}

// Error is the error member of a response.
type Error struct {
	Code Code `json:"code"`
	// Message is one line for people.
	Message string `json:"message"`
	// Data is any JSON, or nil.
	Data json.RawMessage `json:"data,omitempty"`
}

// Errorf makes an Error of a code and a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives the message and the number of the code.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s (%d)", e.Code.Error(), int(e.Code))
	}
	return fmt.Sprintf("%s (%d)", e.Message, int(e.Code))
}

// Unwrap gives the code, for errors.Is.
func (e *Error) Unwrap() error { return e.Code }
