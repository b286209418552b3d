package protocol

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Version is the version of the protocol that this package speaks (P16).
const Version = 1

// The methods of version 1. PROTOCOL.md says which side sends which.
const (
	MethodInitialize = "initialize"
	MethodTaskRun    = "task/run"
	MethodCancel     = "$/cancelRequest"
	MethodPing       = "ping"
	MethodShutdown   = "shutdown"
	MethodDraining   = "$/draining"
	MethodProgress   = "$/progress"
	MethodLog        = "log"
	MethodWaiting    = "$/waiting"
	MethodResumed    = "$/resumed"

	MethodChannelGet     = "channel/get"
	MethodChannelSet     = "channel/set"
	MethodChannelDelete  = "channel/delete"
	MethodChannelExists  = "channel/exists"
	MethodChannelKeys    = "channel/keys"
	MethodChannelAppend  = "channel/append"
	MethodChannelPrepend = "channel/prepend"
	MethodChannelAdd     = "channel/add"
	MethodChannelLock    = "channel/lock"
	MethodChannelUnlock  = "channel/unlock"
	MethodTaskEnqueue    = "task/enqueue"
)

// methodName gives the constant for a known name, so that decoding a message
// allocates nothing for it.
func methodName(name []byte) string {
	switch string(name) {
	case MethodTaskRun:
		return MethodTaskRun
	case MethodPing:
		return MethodPing
	case MethodProgress:
		return MethodProgress
	case MethodLog:
		return MethodLog
	case MethodCancel:
		return MethodCancel
	default:
		return string(name)
	}
}

// Peer names one side of a connection.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Limits are what the sidecar asks a worker to keep to.
type Limits struct {
	// MaxMessageBytes is the longest line that either side accepts (P4).
	MaxMessageBytes int `json:"maxMessageBytes"`
}

// InitializeParams are the params of initialize (P15, P16).
type InitializeParams struct {
	ProtocolVersion int    `json:"protocolVersion"`
	Sidecar         Peer   `json:"sidecar"`
	WorkerID        string `json:"workerId"`
	// Slot is the child's place in the sidecar's pool, from 0.
	Slot int `json:"slot"`
	// ProcessID equals SIDECAR_PROCESS_ID in the child's environment.
	ProcessID string `json:"processId"`
	Limits    Limits `json:"limits"`
}

// InitializeResult is the result of initialize (P17).
type InitializeResult struct {
	ProtocolVersion int  `json:"protocolVersion"`
	Worker          Peer `json:"worker"`
	// Concurrency is how many tasks the worker runs at once, at least 1.
	Concurrency int `json:"concurrency"`
	// Capabilities has one member for each that the worker uses, such as
	// "channels"; never nil on the wire.
	Capabilities map[string]json.RawMessage `json:"capabilities"`
	// Inputs are the names of the inputs that the worker wants with its tasks, by
	// patterns of their ids (P56).
	Inputs map[string][]string `json:"inputs,omitempty"`
}

// CancelParams are the params of $/cancelRequest (P29).
type CancelParams struct {
	// ID is the id of the task/run to give up, as it was sent.
	ID json.RawMessage `json:"id"`
}

// ShutdownParams are the params of shutdown (P36).
type ShutdownParams struct {
	// BudgetMs is how long running tasks have, in milliseconds; 0 is unknown.
	BudgetMs int64 `json:"budgetMs,omitempty"`
}

// LogParams are the params of log (P43).
type LogParams struct {
	// Level is debug, info, warn or error.
	Level   string `json:"level"`
	Message string `json:"message"`
	// Delivery is the task that the line is about; empty for none.
	Delivery string         `json:"delivery,omitempty"`
	Fields   map[string]any `json:"fields,omitempty"`
}

// ProgressParams are the params of $/progress (P42).
type ProgressParams struct {
	Delivery string `json:"delivery"`
	// Fraction is how much is done, from 0 to 1.
	Fraction float64 `json:"fraction"`
	Message  string  `json:"message,omitempty"`
}

// DeliveryParams are the params of $/waiting and $/resumed (P44).
type DeliveryParams struct {
	Delivery string `json:"delivery"`
}

// RunParams are the params of task/run (P20).
type RunParams struct {
	// Delivery names this delivery of the record.
	Delivery string
	// Record is the record's JSON text.
	Record []byte
	// Attempt is 1 for a record that no crash has lost before.
	Attempt int
	// DeadlineUnixMs is when the task must have ended, in milliseconds since
	// 1970; 0 is no deadline.
	DeadlineUnixMs int64
	// Traceparent is a W3C trace context; empty for none.
	Traceparent string
	// Inputs are those that were found, of the ones that the worker declared.
	Inputs []Input
}

// AppendTaskRun appends a task/run request to dst and returns it, without a
// line end. The record is embedded as it is, but for CR and LF between its
// tokens, which become spaces; it must be valid JSON (CheckJSON).
func AppendTaskRun(dst []byte, id int64, p RunParams) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = strconv.AppendInt(dst, id, 10)
	dst = append(dst, `,"method":"task/run","params":{"delivery":`...)
	dst = appendString(dst, p.Delivery)
	dst = append(dst, `,"record":`...)
	dst = slices.Grow(dst, len(p.Record)+256) // what stands behind it is not to move it once more
	dst = appendFlat(dst, p.Record)
	dst = append(dst, `,"attempt":`...)
	dst = strconv.AppendInt(dst, int64(p.Attempt), 10)
	if p.DeadlineUnixMs != 0 {
		dst = append(dst, `,"deadlineUnixMs":`...)
		dst = strconv.AppendInt(dst, p.DeadlineUnixMs, 10)
	}
	if p.Traceparent != "" {
		dst = append(dst, `,"_meta":{"traceparent":`...)
		dst = appendString(dst, p.Traceparent)
		dst = append(dst, '}')
	}
	dst = appendInputs(dst, p.Inputs)
	return append(dst, '}', '}')
}
