package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// ErrBadRequest is wrapped by every error of DecodeTaskRequest.
var ErrBadRequest = errors.New("invalid params")

// Bounds of what a worker asks (P54).
const (
	// MaxKeys is how many keys one channel/get may name.
	MaxKeys = 1000
	// MaxKeyBytes is the longest key.
	MaxKeyBytes = 64 << 10
	// MaxLockMs is the longest timeoutMs, one day.
	MaxLockMs = 24 * 60 * 60 * 1000
	// maxTTLMs is the longest ttlMs, about 139 years: Redis refuses what, added
	// to the present time, is beyond its integers.
	maxTTLMs = 1 << 42
	// maxAmount is the longest amount, in bytes of its JSON token.
	maxAmount = 64
)

// DefaultLockMs is the timeoutMs of a channel/lock that has none (P48).
const DefaultLockMs = 10_000

// TaskRequest is what a worker's request about a task says: the params of the channel
// methods and of task/enqueue (P45 to P49, P53). Which members are set depends
// on the method. Its slices alias what was decoded.
type TaskRequest struct {
	// Delivery is the task that asks.
	Delivery string
	// Key is the channel's key; Keys has those of a channel/get of several, and
	// is nil for one.
	Key  string
	Keys []string
	// Value is the text of value or valueText.
	Value []byte
	// TTLMs and TimeoutMs are in milliseconds; a TTLMs of 0 means that the value
	// does not expire.
	TTLMs, TimeoutMs int64
	// Amount is a number's JSON token.
	Amount string
	// Token is that of a lock.
	Token string
	// Record is a JSON object.
	Record []byte
}

// The members of params, as bits.
const (
	memberDelivery = 1 << iota
	memberKey
	memberKeys
	memberValue
	memberText
	memberTTL
	memberAmount
	memberTimeout
	memberToken
	memberRecord
)

// needs says which members a method must have. (channel/get is special.)
var needs = map[string]uint16{
	MethodChannelGet:     memberDelivery,
	MethodChannelSet:     memberDelivery | memberKey,
	MethodChannelDelete:  memberDelivery | memberKey,
	MethodChannelExists:  memberDelivery | memberKey,
	MethodChannelKeys:    memberDelivery,
	MethodChannelAppend:  memberDelivery | memberKey,
	MethodChannelPrepend: memberDelivery | memberKey,
	MethodChannelAdd:     memberDelivery | memberKey,
	MethodChannelLock:    memberDelivery | memberKey,
	MethodChannelUnlock:  memberDelivery | memberKey | memberToken,
	MethodTaskEnqueue:    memberDelivery | memberRecord,
}

var memberNames = []string{"delivery", "key", "keys", "value", "valueText", "ttlMs", "amount", "timeoutMs", "token", "record"}

// IsTaskRequest reports whether method is one that a worker asks for a task.
func IsTaskRequest(method string) bool { return needs[method] != 0 }

// DecodeTaskRequest reads the params of a request for which IsTaskRequest holds. A member of
// null counts as absent, but for value; unknown ones are ignored. Every error
// wraps ErrBadRequest and is for the worker's author; the Delivery is set all the
// same if it could be read.
func DecodeTaskRequest(method string, raw []byte) (TaskRequest, error) {
	if at := invalidUTF8(raw); at >= 0 {
		return TaskRequest{}, fmt.Errorf("%w of %s: not UTF-8 at byte %d", ErrBadRequest, method, at)
	}
	s := newScan(raw)
	a, seen := s.taskRequest()
	if s.Problem != "" {
		return a, fmt.Errorf("%w of %s: %s at byte %d", ErrBadRequest, method, s.Problem, s.Pos)
	}
	if what := a.wrong(method, seen); what != "" {
		return a, fmt.Errorf("%w of %s: %s", ErrBadRequest, method, what)
	}
	if a.TimeoutMs == 0 {
		a.TimeoutMs = DefaultLockMs
	}
	if seen&memberAmount == 0 {
		a.Amount = "1"
	}
	return a, nil
}

// wrong says what a request lacks, or has too much of.
func (a *TaskRequest) wrong(method string, seen uint16) string {
	for i, name := range memberNames {
		if bit := uint16(1) << i; needs[method]&bit != 0 && seen&bit == 0 {
			return "no " + name
		}
	}
	switch method {
	case MethodChannelGet:
		switch {
		case seen&(memberKey|memberKeys) == 0:
			return "neither key nor keys"
		case seen&(memberKey|memberKeys) == memberKey|memberKeys:
			return "both key and keys"
		}
	case MethodChannelSet, MethodChannelAppend, MethodChannelPrepend:
		switch {
		case seen&(memberValue|memberText) == 0:
			return "neither value nor valueText"
		case seen&(memberValue|memberText) == memberValue|memberText:
			return "both value and valueText"
		case len(a.Value) == 0:
			return "an empty valueText"
		}
	}
	return ""
}

func (s *scan) taskRequest() (a TaskRequest, seen uint16) {
	s.Space()
	if !s.Expect('{', "the params are not an object") {
		return a, 0
	}
	var before uint16
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		start := s.Pos
		i := slices.Index(memberNames, string(name))
		switch {
		case i < 0:
			s.value(1)
		case before&(1<<i) != 0:
			s.Fail("a member occurs twice: " + string(name))
		case 1<<i != memberValue && s.Peek() == 'n':
			before |= 1 << i
			s.Literal("null")
		default:
			before |= 1 << i
			seen |= 1 << i
			s.member(&a, 1<<i, start)
		}
		if s.Problem != "" {
			return a, seen
		}
	}
	if s.Problem == "" {
		s.End()
	}
	return a, seen
}

// member reads one member that is not null.
func (s *scan) member(a *TaskRequest, bit uint16, start int) {
	switch bit {
	case memberDelivery:
		a.Delivery = string(s.required("the delivery"))
	case memberKey:
		a.Key = s.key()
	case memberKeys:
		a.Keys = s.keys()
	case memberValue:
		if s.value(1) {
			a.Value = s.Data[start:s.Pos]
		}
	case memberText:
		a.Value = s.required("valueText")
	case memberTTL:
		a.TTLMs = s.duration("ttlMs", maxTTLMs)
	case memberTimeout:
		a.TimeoutMs = s.duration("timeoutMs", MaxLockMs)
	case memberToken:
		a.Token = string(s.required("the token"))
	case memberAmount:
		if c := s.Peek(); c != '-' && (c < '0' || c > '9') {
			s.Fail("the amount is not a number")
		} else if s.Number() {
			if a.Amount = string(s.Data[start:s.Pos]); len(a.Amount) > maxAmount {
				s.Fail("the amount has more than " + strconv.Itoa(maxAmount) + " characters")
			}
		}
	case memberRecord:
		if s.Peek() != '{' {
			s.Fail("the record is not an object")
		} else if s.value(1) {
			a.Record = s.Data[start:s.Pos]
		}
	}
}

func (s *scan) required(what string) []byte {
	if s.Peek() != '"' {
		s.Fail(what + " is not a string")
		return nil
	}
	text, _ := s.Text()
	return text
}

func (s *scan) key() string {
	key := s.required("a key")
	if len(key) > MaxKeyBytes {
		s.Fail("a key has more than " + strconv.Itoa(MaxKeyBytes) + " bytes")
	}
	return string(key)
}

func (s *scan) keys() []string {
	if !s.Expect('[', "keys is not an array") {
		return nil
	}
	keys := []string{}
	for s.Space(); s.Peek() != ']'; s.Space() {
		if len(keys) > 0 {
			if !s.Expect(',', "expected , or ] in an array") {
				return nil
			}
			s.Space()
		}
		if len(keys) == MaxKeys {
			s.Fail("more than " + strconv.Itoa(MaxKeys) + " keys")
		}
		keys = append(keys, s.key())
		if s.Problem != "" {
			return nil
		}
	}
	s.Pos++
	return keys
}

// duration reads a whole number from 1 to most.
func (s *scan) duration(what string, most int64) int64 {
	start := s.Pos
	n := s.integer(what, 64)
	if s.Problem == "" && (n < 1 || n > most) {
		s.Pos = start
		s.Fail(fmt.Sprintf("%s is not from 1 to %d", what, most))
	}
	return n
}
