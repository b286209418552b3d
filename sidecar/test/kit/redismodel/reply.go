package redismodel

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the type of a [Reply].
type Kind uint8

// Kinds of replies. Map, Set and Double are those of RESP3; a RESP2 connection and a
// script get them as Array and Bulk.
const (
	Nil Kind = iota
	NilArray
	Int
	Bulk
	Status
	Error
	Array
	Map
	Set
	Double
	pairs // members with scores: nested arrays in RESP3, flat in RESP2
	push3 // a message of a subscription
	none  // no reply: the command sends its own messages
	block // no reply yet: the command waits for an element of a list
)

// Reply is the reply to a command.
type Reply struct {
	Kind  Kind
	Int   int64
	Text  string  // of Bulk, Status, Error and Double
	Array []Reply // of Array, Map (keys and values in turn) and Set
}

var (
	nilReply = Reply{Kind: Nil}
	okReply  = Reply{Kind: Status, Text: "OK"}
)

func integer(n int) Reply         { return Reply{Kind: Int, Int: int64(n)} }
func bulk(text string) Reply      { return Reply{Kind: Bulk, Text: text} }
func array(list ...Reply) Reply   { return Reply{Kind: Array, Array: list} }
func failed(text string) Reply    { return Reply{Kind: Error, Text: text} }
func boolean(is bool) Reply       { return integer(count(is)) }
func double(score float64) Reply  { return Reply{Kind: Double, Text: formatFloat(score)} }
func (r Reply) is(kind Kind) bool { return r.Kind == kind }

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func bulks(texts []string) Reply {
	list := make([]Reply, len(texts))
	for i, text := range texts {
		list[i] = bulk(text)
	}
	return Reply{Kind: Array, Array: list}
}

// flat returns members with scores as RESP2 and scripts have them.
func flat(r Reply) Reply {
	list := make([]Reply, 0, 2*len(r.Array))
	for _, pair := range r.Array {
		list = append(list, pair.Array...)
	}
	return array(list...)
}

// Err returns the text of an error reply, or "".
func (r Reply) Err() string {
	if r.Kind == Error {
		return r.Text
	}
	return ""
}

// Texts returns the elements of an array as text.
func (r Reply) Texts() []string {
	list := make([]string, len(r.Array))
	for i, e := range r.Array {
		list[i] = e.String()
	}
	return list
}

// String returns the reply in one line, as redis-cli prints it with --no-raw.
func (r Reply) String() string {
	switch r.Kind {
	case Nil, NilArray:
		return "(nil)"
	case Int:
		return strconv.FormatInt(r.Int, 10)
	case Error:
		return "(error) " + r.Text
	case pairs:
		return flat(r).String()
	case Array, Map, Set:
		var b strings.Builder
		b.WriteByte('[')
		for i, e := range r.Array {
			if i > 0 {
				b.WriteByte(' ')
			}
			if e.Kind == Bulk {
				fmt.Fprintf(&b, "%q", e.Text)
			} else {
				b.WriteString(e.String())
			}
		}
		b.WriteByte(']')
		return b.String()
	default:
		return r.Text
	}
}

// Any returns the reply as go-redis has it: nil, int64, string, error or []any.
func (r Reply) Any() any {
	switch r.Kind {
	case Nil, NilArray:
		return nil
	case Int:
		return r.Int
	case Error:
		return ErrorReply(r.Text)
	case pairs:
		return flat(r).Any()
	case Array, Map, Set:
		list := make([]any, len(r.Array))
		for i, e := range r.Array {
			list[i] = e.Any()
		}
		return list
	default:
		return r.Text
	}
}

// ErrorReply is an error reply of Redis. It implements the interface redis.Error of
// go-redis.
type ErrorReply string

func (e ErrorReply) Error() string { return string(e) }

// RedisError marks the error as a reply.
func (ErrorReply) RedisError() {}

// Errors that several commands share.
const (
	errWrongType  = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errInteger    = "ERR value is not an integer or out of range"
	errFloat      = "ERR value is not a valid float"
	errSyntax     = "ERR syntax error"
	errNoScript   = "NOSCRIPT No matching script. Please use EVAL."
	errMemoryFull = "OOM command not allowed when used memory > 'maxmemory'."
)

func arityError(name string) Reply {
	return failed("ERR wrong number of arguments for '" + name + "' command")
}
