package protocol

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestAppendTaskRun(t *testing.T) {
	tests := []struct {
		name string
		p    RunParams
		want string
	}{
		{
			"P20 the least",
			RunParams{Delivery: "run.1", Record: []byte(`{"task_id":"a"}`), Attempt: 1},
			`{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"run.1","record":{"task_id":"a"},"attempt":1}}`,
		},
		{
			"P20 everything",
			RunParams{Delivery: "r\"1", Record: []byte(`{}`), Attempt: 2, DeadlineUnixMs: 1732335600000, Traceparent: "00-a-b-01"},
			`{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"r\"1","record":{},"attempt":2,"deadlineUnixMs":1732335600000,"_meta":{"traceparent":"00-a-b-01"}}}`,
		},
		{
			"P21 line ends in the record become spaces",
			RunParams{Delivery: "r", Record: []byte("{\r\n\t\"a\": \"\\n\"\n}\n"), Attempt: 1},
			`{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"r","record":{  ` + "\t" + `"a": "\n" } ,"attempt":1}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendTaskRun(nil, 7, tt.p)
			if string(got) != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
			m, err := DecodeMessage(got)
			if err != nil {
				t.Fatal(err)
			}
			p, err := DecodeRunParams(m.Params)
			if err != nil {
				t.Fatal(err)
			}
			p.Record, tt.p.Record = nil, nil
			if !reflect.DeepEqual(p, tt.p) {
				t.Errorf("read back: %+v, want %+v", p, tt.p)
			}
		})
	}
}

func TestDecodeRunParams(t *testing.T) {
	tests := []struct {
		name, raw string
		want      RunParams
		err       string
	}{
		{"P12 unknown members, attempt absent", `{"x":[1],"record":[1, 2],"delivery":"\u0061"}`, RunParams{Delivery: "a", Record: []byte("[1, 2]"), Attempt: 1}, ""},
		{"null is absent", `{"record":1,"delivery":"a","attempt":null,"deadlineUnixMs":null,"_meta":null}`, RunParams{Delivery: "a", Record: []byte("1"), Attempt: 1}, ""},
		{"other members of _meta", `{"record":1,"delivery":"a","_meta":{"x":{"traceparent":"no"},"traceparent":"yes"}}`, RunParams{Delivery: "a", Record: []byte("1"), Attempt: 1, Traceparent: "yes"}, ""},
		{"no delivery", `{"record":1}`, RunParams{}, "no delivery"},
		{"no record", `{"delivery":"a"}`, RunParams{}, "no record"},
		{"a record twice", `{"delivery":"a","record":1,"record":1}`, RunParams{}, "a member occurs twice"},
		{"a delivery that is a number", `{"delivery":1,"record":1}`, RunParams{}, "the delivery is not a string"},
		{"half an attempt", `{"delivery":"a","record":1,"attempt":1.5}`, RunParams{}, "the attempt is not a whole number"},
		{"a huge deadline", `{"delivery":"a","record":1,"deadlineUnixMs":99999999999999999999}`, RunParams{}, "deadlineUnixMs is not a whole number"},
		{"a negative attempt", `{"delivery":"a","record":1,"attempt":-1}`, RunParams{}, "the attempt is not a whole number"},
		{"_meta is a list", `{"delivery":"a","record":1,"_meta":[]}`, RunParams{}, "_meta is not an object"},
		{"not an object", `[]`, RunParams{}, "expected an object"},
		{"not JSON", `{"delivery":"a","record":NaN}`, RunParams{}, "expected a value"},
		{"not UTF-8", "{\"delivery\":\"\xff\"}", RunParams{}, "not UTF-8"},
		{"more after it", `{"delivery":"a","record":1}1`, RunParams{}, "more bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeRunParams([]byte(tt.raw))
			wantError(t, err, ErrBadParams, tt.err)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// wantError checks an error against the one it wraps and the text in it; an
// empty text is no error.
func wantError(t *testing.T, err, kind error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Fatal(err)
	case text != "" && !errors.Is(err, kind):
		t.Fatalf("got error %v, want %v", err, kind)
	case text != "" && !strings.Contains(err.Error(), text):
		t.Fatalf("got error %q, want %q in it", err, text)
	}
}

func TestDecodeRunResult(t *testing.T) {
	tests := []struct {
		name, raw string
		want      RunResult
		err       string
	}{
		{"P23 the least", `{"status":"succeeded"}`, RunResult{Status: StatusSucceeded}, ""},
		{"P23 a value", ` { "value" : [1, 2] , "status" : "succeeded" } `, RunResult{Status: StatusSucceeded, Value: []byte("[1, 2]")}, ""},
		{"P23 a value of null", `{"status":"succeeded","value":null}`, RunResult{Status: StatusSucceeded, Value: []byte("null")}, ""},
		{"P25 a value as text", `{"status":"succeeded","valueText":"[NaN, \"\\u00e4\"]"}`, RunResult{Status: StatusSucceeded, ValueText: `[NaN, "\u00e4"]`}, ""},
		{"null is absent", `{"status":"succeeded","value":1,"valueText":null,"error":null}`, RunResult{Status: StatusSucceeded, Value: []byte("1")}, ""},
		{
			"P23 failed", `{"status":"failed","error":{"type":"ValueError","message":"no","stack":"a\nb","retryable":false}}`,
			RunResult{Status: StatusFailed, Err: &TaskError{Type: "ValueError", Message: "no", RawMessage: []byte(`"no"`), Stack: "a\nb"}},
			"",
		},
		{
			"P24 retryable", `{"status":"failed","error":{"message":"no","retryable":true,"type":null,"stack":null}}`,
			RunResult{Status: StatusFailed, Err: &TaskError{Message: "no", RawMessage: []byte(`"no"`), Retryable: true}},
			"",
		},
		{
			"P12 unknown members", `{"status":"failed","x":{"y":[]},"error":{"message":"","code":1,"retryable":null}}`,
			RunResult{Status: StatusFailed, Err: &TaskError{RawMessage: []byte(`""`)}},
			"",
		},
		{
			"a lone surrogate, which Python has and Go has not", `{"status":"failed","error":{"message":"caf\udce9"}}`,
			RunResult{Status: StatusFailed, Err: &TaskError{Message: "caf\uFFFD", RawMessage: []byte(`"caf\udce9"`)}},
			"",
		},
		{"P23 no status", `{"value":1}`, RunResult{}, "no status"},
		{"P23 an unknown status", `{"status":"done"}`, RunResult{}, "the status is neither succeeded nor failed"},
		{"P23 a status of null", `{"status":null}`, RunResult{}, "the status is neither"},
		{"P23 failed without an error", `{"status":"failed"}`, RunResult{}, "failed without an error"},
		{"P23 failed with a value", `{"status":"failed","value":1,"error":{"message":""}}`, RunResult{}, "failed with a value"},
		{"P23 succeeded with an error", `{"status":"succeeded","error":{"message":""}}`, RunResult{}, "succeeded with an error"},
		{"P23 an error without a message", `{"status":"failed","error":{"type":"a"}}`, RunResult{}, "an error without a message"},
		{"P23 an error that is text", `{"status":"failed","error":"no"}`, RunResult{}, "the error is not an object"},
		{"P23 a message that is a number", `{"status":"failed","error":{"message":1}}`, RunResult{}, "the error's message is not a string"},
		{"P24 retryable as text", `{"status":"failed","error":{"message":"","retryable":"yes"}}`, RunResult{}, "retryable is neither true nor false"},
		{"P25 both values", `{"status":"succeeded","value":1,"valueText":"1"}`, RunResult{}, "both a value and a valueText"},
		{"P25 an empty text", `{"status":"succeeded","valueText":""}`, RunResult{}, "an empty valueText"},
		{"P25 a valueText that is no text", `{"status":"succeeded","valueText":1}`, RunResult{}, "valueText is not a string"},
		{"P12 a status twice", `{"status":"succeeded","status":"succeeded"}`, RunResult{}, "a member occurs twice"},
		{"P12 a message twice", `{"status":"failed","error":{"message":"","message":""}}`, RunResult{}, "a member occurs twice"},
		{"not an object", `"succeeded"`, RunResult{}, "expected an object"},
		{"not JSON", `{"status":"succeeded","value":NaN}`, RunResult{}, "expected a value"},
		{"not UTF-8", "{\"status\":\"succeeded\",\"value\":\"\xff\"}", RunResult{}, "not UTF-8 at byte 31"},
		{"more after it", `{"status":"succeeded"} 1`, RunResult{}, "more bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeRunResult([]byte(tt.raw))
			wantError(t, err, ErrBadResult, tt.err)
			if err == nil && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAppendRunResult(t *testing.T) {
	tests := []struct {
		r    RunResult
		want string
	}{
		{RunResult{Status: StatusSucceeded}, `{"status":"succeeded"}`},
		{RunResult{Status: StatusSucceeded, Value: []byte("[\n1]")}, `{"status":"succeeded","value":[ 1]}`},
		{RunResult{Status: StatusSucceeded, ValueText: `"NaN"`}, `{"status":"succeeded","valueText":"\"NaN\""}`},
		{
			RunResult{Status: StatusFailed, Err: &TaskError{Type: "E", Message: "m\xff\x01", Stack: "s", Retryable: true}},
			`{"status":"failed","error":{"type":"E","message":"m\ufffd\u0001","stack":"s","retryable":true}}`,
		},
		{RunResult{Status: StatusFailed, Err: &TaskError{}}, `{"status":"failed","error":{"type":"","message":"","retryable":false}}`},
	}
	for _, tt := range tests {
		if got := AppendRunResult(nil, tt.r); string(got) != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestCheckJSON(t *testing.T) {
	tests := []struct {
		name, raw string
		big       bool
		err       string
	}{
		{"an object", ` {"a":[1,-2.5e3,"x",true,null]} `, false, ""},
		{"P12 as deep as fits a message", nested(MaxDepth - 2), false, ""},
		{"P12 one deeper", nested(MaxDepth - 1), false, "nested too deep"},
		{"P25 the last safe integer", `[9007199254740992,-9007199254740992]`, false, ""},
		{"P25 one more", `9007199254740993`, true, ""},
		{"P25 one more below zero", `{"a":[-9007199254740993]}`, true, ""},
		{"P25 many digits", `123456789012345678901234567890`, true, ""},
		{"P25 a fraction is no integer", `[9007199254740993.5,9007199254740993e1]`, false, ""},
		{"P25 digits in a string", `"9007199254740993"`, false, ""},
		{"nothing", ``, false, "expected a value at byte 0"},
		{"two values", `1 2`, false, "more bytes"},
		{"not UTF-8", "\"\xff\"", false, "not UTF-8 at byte 1"},
		{"Python's", `[Infinity]`, false, "expected a value at byte 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, CheckJSON([]byte(tt.raw)), ErrNotJSON, tt.err)
			if big, _ := checkJSON([]byte(tt.raw)); big != tt.big {
				t.Errorf("beyond 2^53: %v, want %v", big, tt.big)
			}
		})
	}
}

// The structs say the same on the wire as PROTOCOL.md.
func TestInitializeOnTheWire(t *testing.T) {
	tests := []struct {
		v    any
		want string
	}{
		{
			InitializeParams{1, Peer{"graflow-sidecar", "0.1.0"}, "worker_1", 0, "p1", Limits{16777216}},
			`{"protocolVersion":1,"sidecar":{"name":"graflow-sidecar","version":"0.1.0"},"workerId":"worker_1","slot":0,"processId":"p1","limits":{"maxMessageBytes":16777216}}`,
		},
		{
			InitializeResult{1, Peer{"words", "1.2"}, 4, map[string]json.RawMessage{"channels": []byte("{}")}, nil},
			`{"protocolVersion":1,"worker":{"name":"words","version":"1.2"},"concurrency":4,"capabilities":{"channels":{}}}`,
		},
		{CancelParams{json.RawMessage("7")}, `{"id":7}`},
		{ShutdownParams{20000}, `{"budgetMs":20000}`},
		{ShutdownParams{}, `{}`},
		{LogParams{"info", "hi", "r.1", map[string]any{"n": 1}}, `{"level":"info","message":"hi","delivery":"r.1","fields":{"n":1}}`},
		{ProgressParams{"r.1", 0.5, "half"}, `{"delivery":"r.1","fraction":0.5,"message":"half"}`},
		{DeliveryParams{"r.1"}, `{"delivery":"r.1"}`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.v)
		if err != nil || string(got) != tt.want {
			t.Errorf("%T: got %s, %v; want %s", tt.v, got, err, tt.want)
		}
	}
}
