package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Channel is the Graflow channel of the session that a task runs in: what
// Graflow's tasks get from get_channel(), reached through the sidecar (P45). Its
// methods may be called from any goroutine, until the task is answered.
//
// Values are what JSON can hold, and json.RawMessage stands for the text itself:
// Python's NaN, for one, is text that encoding/json does not read, other than
// into a float64. The result of task x is the value of the key ResultKey("x").
//
// An error that is an *Error says what the sidecar said: CodeInvalidParams for a
// key that holds another kind of value, CodeDeliveryEnded once the task is over,
// CodeMethodNotFound where there are no channels. One with CodeInternal is
// Redis' fault, and Retryable. While Redis is away, calls wait until it is back
// or ctx ends.
type Channel struct{ t *Task }

// Channel returns the channel of the task's session.
func (t *Task) Channel() Channel { return Channel{t} }

// ResultKey is the key of a task's result (P46).
func ResultKey(taskID string) string { return taskID + ".__result__" }

// Entry is what one key holds.
type Entry struct {
	Found bool
	text  []byte
}

// Text is the value as it was written: JSON, or what Python makes of it.
func (e Entry) Text() json.RawMessage { return e.text }

// Decode unmarshals the value into v, as encoding/json does; a *float64 also
// takes NaN, Infinity and -Infinity, a *json.RawMessage takes any text. A value
// that is not there leaves v as it is.
func (e Entry) Decode(v any) error {
	if !e.Found {
		return nil
	}
	return decodeText(e.text, v)
}

func decodeText(text []byte, v any) error {
	switch p := v.(type) {
	case *json.RawMessage:
		*p = bytes.Clone(text)
		return nil
	case *float64:
		switch string(bytes.TrimSpace(text)) {
		case "NaN":
			*p = math.NaN()
			return nil
		case "Infinity":
			*p = math.Inf(1)
			return nil
		case "-Infinity":
			*p = math.Inf(-1)
			return nil
		}
	}
	return json.Unmarshal(text, v)
}

// wireEntry is an Entry in a message.
type wireEntry struct {
	Found     bool            `json:"found"`
	Value     json.RawMessage `json:"value"`
	ValueText string          `json:"valueText"`
}

func (w wireEntry) entry() Entry {
	switch {
	case !w.Found:
		return Entry{}
	case w.ValueText != "":
		return Entry{Found: true, text: []byte(w.ValueText)}
	case w.Value == nil: // null
		return Entry{Found: true, text: []byte("null")}
	default:
		return Entry{Found: true, text: w.Value}
	}
}

// Get reads a key into v, see Entry.Decode, and reports whether it was there.
func (c Channel) Get(ctx context.Context, key string, v any) (found bool, err error) {
	var w wireEntry
	if err := c.t.call(ctx, MethodChannelGet, &w, withKey(key)); err != nil {
		return false, err
	}
	e := w.entry()
	if err := e.Decode(v); err != nil {
		return e.Found, fmt.Errorf("channel key %q: %w", key, err)
	}
	return e.Found, nil
}

// GetAll reads several keys at the same moment, in one exchange (P53).
func (c Channel) GetAll(ctx context.Context, keys ...string) ([]Entry, error) {
	var r struct{ Values []wireEntry }
	err := c.t.call(ctx, MethodChannelGet, &r, func(dst []byte) ([]byte, error) {
		dst = append(dst, `,"keys":[`...)
		for i, key := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, key)
		}
		return append(dst, ']'), nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(r.Values) != len(keys):
		return nil, fmt.Errorf("%d values for %d keys", len(r.Values), len(keys))
	}
	entries := make([]Entry, len(keys))
	for i, w := range r.Values {
		entries[i] = w.entry()
	}
	return entries, nil
}

// Set writes a value, whatever the key held.
func (c Channel) Set(ctx context.Context, key string, value any) error {
	return c.SetFor(ctx, key, value, 0)
}

// SetFor is Set for a value that expires after ttl, which is rounded up to
// milliseconds; 0 is never.
func (c Channel) SetFor(ctx context.Context, key string, value any, ttl time.Duration) error {
	var r struct{}
	return c.t.call(ctx, MethodChannelSet, &r, withValue(key, value, ttl))
}

// Delete removes a key and reports whether it was there.
func (c Channel) Delete(ctx context.Context, key string) (bool, error) {
	var r struct{ Deleted bool }
	err := c.t.call(ctx, MethodChannelDelete, &r, withKey(key))
	return r.Deleted, err
}

// Exists reports whether a key is there.
func (c Channel) Exists(ctx context.Context, key string) (bool, error) {
	var r struct{ Exists bool }
	err := c.t.call(ctx, MethodChannelExists, &r, withKey(key))
	return r.Exists, err
}

// Keys lists the session's keys, those of locks ("lock:…") too.
func (c Channel) Keys(ctx context.Context) ([]string, error) {
	var r struct{ Keys []string }
	err := c.t.call(ctx, MethodChannelKeys, &r, func(dst []byte) ([]byte, error) { return dst, nil })
	return r.Keys, err
}

// Append adds a value at the end of a list and returns the list's length. ttl is
// that of the whole list; 0 leaves it as it is.
func (c Channel) Append(ctx context.Context, key string, value any, ttl time.Duration) (int, error) {
	var r struct{ Length int }
	err := c.t.call(ctx, MethodChannelAppend, &r, withValue(key, value, ttl))
	return r.Length, err
}

// Prepend is Append at the other end.
func (c Channel) Prepend(ctx context.Context, key string, value any, ttl time.Duration) (int, error) {
	var r struct{ Length int }
	err := c.t.call(ctx, MethodChannelPrepend, &r, withValue(key, value, ttl))
	return r.Length, err
}

// Add adds to the number that a key holds, or to 0, in one step, and returns the
// sum: what other languages call atomic_add. The sum may be read as the kind of
// number that is wanted: json.Number has every digit of it.
func (c Channel) Add(ctx context.Context, key string, amount float64) (json.Number, error) {
	var w wireEntry
	err := c.t.call(ctx, MethodChannelAdd, &w, func(dst []byte) ([]byte, error) {
		if math.IsNaN(amount) || math.IsInf(amount, 0) {
			return nil, Errorf(CodeInvalidParams, "%v cannot be added", amount)
		}
		dst, _ = withKey(key)(dst)
		return strconv.AppendFloat(append(dst, `,"amount":`...), amount, 'g', -1, 64), nil
	})
	w.Found = true
	return json.Number(w.entry().text), err
}

// Lock is a lock that is held.
type Lock struct {
	c     Channel
	key   string
	token string
}

// Lock waits up to timeout for the lock of a key, which Graflow's channel.lock
// takes too, and returns nil if it was not to be had. It ends with Unlock, with
// the task, or timeout after it was taken, whichever comes first (P48).
func (c Channel) Lock(ctx context.Context, key string, timeout time.Duration) (*Lock, error) {
	var r struct{ Token *string }
	err := c.t.call(ctx, MethodChannelLock, &r, func(dst []byte) ([]byte, error) {
		dst, _ = withKey(key)(dst)
		return strconv.AppendInt(append(dst, `,"timeoutMs":`...), milliseconds(timeout), 10), nil
	})
	if err != nil || r.Token == nil {
		return nil, err
	}
	return &Lock{c, key, *r.Token}, nil
}

// Unlock gives the lock back and reports whether it was still held: false says
// that its time had run out, and that another task may have had it since.
func (l *Lock) Unlock(ctx context.Context) (bool, error) {
	var r struct{ Released bool }
	err := l.c.t.call(ctx, MethodChannelUnlock, &r, func(dst []byte) ([]byte, error) {
		dst, _ = withKey(l.key)(dst)
		return appendString(append(dst, `,"token":`...), l.token), nil
	})
	return r.Released, err
}

// Enqueue adds a record to the queue (P49): a value that JSON has an object for,
// with a member task_id at least. It will run in the session of this task unless
// it names another one.
func (t *Task) Enqueue(ctx context.Context, record any) error {
	var r struct{}
	return t.call(ctx, MethodTaskEnqueue, &r, func(dst []byte) ([]byte, error) {
		text, err := encodeText(record)
		if err == nil {
			err = CheckJSON(text)
		}
		if err != nil {
			return nil, fmt.Errorf("the record: %w", err)
		}
		return appendFlat(append(dst, `,"record":`...), text), nil
	})
}

func withKey(key string) func([]byte) ([]byte, error) {
	return func(dst []byte) ([]byte, error) { return appendString(append(dst, `,"key":`...), key), nil }
}

func withValue(key string, value any, ttl time.Duration) func([]byte) ([]byte, error) {
	return func(dst []byte) ([]byte, error) {
		text, err := encodeText(value)
		if err != nil {
			return nil, fmt.Errorf("channel key %q: %w", key, err)
		}
		dst, _ = withKey(key)(dst)
		if dst, err = AppendValue(append(dst, ','), text); err != nil {
			return nil, fmt.Errorf("channel key %q: %w", key, err)
		}
		if ttl > 0 {
			dst = strconv.AppendInt(append(dst, `,"ttlMs":`...), milliseconds(ttl), 10)
		}
		return dst, nil
	}
}

// milliseconds rounds up, and to 1 at least: 0 would be another request.
func milliseconds(d time.Duration) int64 {
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}

// encodeText is a value as JSON text; a float64 that JSON has no word for is
// written as Python does.
func encodeText(value any) ([]byte, error) {
	switch v := value.(type) {
	case json.RawMessage:
		return v, nil
	case float64:
		switch {
		case math.IsNaN(v):
			return []byte("NaN"), nil
		case math.IsInf(v, 1):
			return []byte("Infinity"), nil
		case math.IsInf(v, -1):
			return []byte("-Infinity"), nil
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
