package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestDecodeMessage(t *testing.T) {
	tests := []struct {
		name string
		line string
		want Message
	}{
		{
			"P9 a request", `{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"a":[1,{"b":null}]}}`,
			Message{ID: []byte("7"), Method: MethodTaskRun, Params: []byte(`{"a":[1,{"b":null}]}`)},
		},
		{"P9 a notification", `{"jsonrpc":"2.0","method":"$/draining"}`, Message{Method: MethodDraining}},
		{
			"P9 a result", `{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded"}}`,
			Message{ID: []byte("7"), Result: []byte(`{"status":"succeeded"}`)},
		},
		{"P9 a result of null", `{"jsonrpc":"2.0","id":7,"result":null}`, Message{ID: []byte("7"), Result: []byte("null")}},
		{
			"P9 an error", `{"jsonrpc":"2.0","id":7,"error":{"code":-32800,"message":"gone\u0021","data":[1]}}`,
			Message{ID: []byte("7"), Error: &Error{CodeCancelled, "gone!", json.RawMessage("[1]")}},
		},
		{
			"P10 an error for a request that could not be read", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}`,
			Message{ID: []byte("null"), Error: &Error{Code: CodeParse, Message: "?"}},
		},
		{"P10 an id is kept as it was written", `{"jsonrpc":"2.0","id":"a\u0062","method":"ping"}`, Message{ID: []byte(`"a\u0062"`), Method: MethodPing}},
		{"P10 an id of any number", `{"jsonrpc":"2.0","id":-1.50e+3,"method":"ping"}`, Message{ID: []byte("-1.50e+3"), Method: MethodPing}},
		{
			"members in any order, space wherever JSON has it", " \t{ \"params\" : [ ] ,\t\"method\" : \"ping\" , \"id\" : 1 , \"jsonrpc\" : \"2.0\" } ",
			Message{ID: []byte("1"), Method: MethodPing, Params: []byte("[ ]")},
		},
		{"P12 unknown members", `{"jsonrpc":"2.0","x":{"id":9},"method":"ping","x":2,"ID":3,"Method":1}`, Message{Method: MethodPing}},
		{"names and the version may be escaped", `{"\u006asonrpc":"\u0032.0","m\u0065thod":"p\u0069ng"}`, Message{Method: MethodPing}},
		{"a method of our own", `{"jsonrpc":"2.0","method":"x/ä"}`, Message{Method: "x/ä"}},
		{"P12 the deepest nesting", `{"jsonrpc":"2.0","method":"ping","params":` + nested(MaxDepth-1) + `}`, Message{Method: MethodPing, Params: []byte(nested(MaxDepth - 1))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeMessage([]byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if kinds := b2i(got.IsRequest()) + b2i(got.IsNotification()) + b2i(got.IsResponse()); kinds != 1 {
				t.Errorf("it is %d kinds of message at once", kinds)
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nested is n arrays in one another.
func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestDecodeMessageRefuses(t *testing.T) {
	tests := []struct{ name, line, want string }{
		{"nothing", ``, "expected an object at byte 0"},
		{"P2 a batch", `[{"jsonrpc":"2.0","method":"ping"}]`, "expected an object at byte 0"},
		{"P2 two messages on a line", `{"jsonrpc":"2.0","method":"ping"}{"jsonrpc":"2.0","method":"ping"}`, "more bytes after the end of the value at byte 33"},
		{"P2 no UTF-8", "{\"jsonrpc\":\"2.0\",\"method\":\"p\xff\"}", "not UTF-8 at byte 28"},
		{"P2 a surrogate in UTF-8", "{\"jsonrpc\":\"2.0\",\"method\":\"\xed\xa0\x80\"}", "not UTF-8 at byte 27"},
		{"P2 a byte order mark", "\ufeff" + `{"jsonrpc":"2.0","method":"ping"}`, "expected an object at byte 0"},
		{"P9 no version", `{"method":"ping"}`, `no "jsonrpc":"2.0"`},
		{"P9 another version", `{"jsonrpc":"1.0","method":"ping"}`, `jsonrpc is not "2.0" at byte 11`},
		{"P9 the version as a number", `{"jsonrpc":2.0,"method":"ping"}`, `jsonrpc is not "2.0"`},
		{"P9 nothing that makes a message", `{"jsonrpc":"2.0","id":1}`, "neither a method nor a result nor an error"},
		{"P9 a method and a result", `{"jsonrpc":"2.0","id":1,"method":"ping","result":1}`, "both a method and a result or error"},
		{"P9 a result and an error", `{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}`, "both a result and an error"},
		{"P9 a result and an error of null", `{"jsonrpc":"2.0","id":1,"result":1,"error":null}`, "the error is not an object"},
		{"P9 a response with params", `{"jsonrpc":"2.0","id":1,"result":1,"params":{}}`, "a response with params"},
		{"P9 params of null", `{"jsonrpc":"2.0","method":"ping","params":null}`, "the params are neither an object nor an array"},
		{"P9 an empty method", `{"jsonrpc":"2.0","method":""}`, "the method is empty"},
		{"P9 a method of null", `{"jsonrpc":"2.0","method":null}`, "the method is not a string"},
		{"P10 a response without an id", `{"jsonrpc":"2.0","result":1}`, "a response without an id"},
		{"P10 a result with an id of null", `{"jsonrpc":"2.0","id":null,"result":1}`, "the id of a result is null"},
		{"P10 a request with an id of null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, "the id of a request is null"},
		{"P10 an id of true", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, "the id is neither a number nor a string"},
		{"P10 an object as id", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, "the id is neither a number nor a string"},
		{"P10 a long id", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", MaxIDBytes) + `","method":"ping"}`, "the id is longer than 128 bytes"},
		{"P12 an id twice", `{"jsonrpc":"2.0","id":1,"method":"ping","id":1}`, "a member occurs twice: id"},
		{"P12 an escaped member twice", `{"jsonrpc":"2.0","id":1,"method":"ping","\u0069d":1}`, "a member occurs twice: id"},
		{"P12 too deep", `{"jsonrpc":"2.0","method":"ping","params":` + nested(MaxDepth) + `}`, "nested too deep"},
		{"P12 too deep by far", `{"jsonrpc":"2.0","method":"ping","params":` + strings.Repeat(`[{"":`, 1_000_000), "nested too deep"},
		{"an error without a message", `{"jsonrpc":"2.0","id":1,"error":{"code":1}}`, "the error's message is not a string"},
		{"an error with a message of null", `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":null}}`, "the error's message is not a string"},
		{"an error with a code that is no integer", `{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":""}}`, "the error's code is not an integer"},
		{"an error that is text", `{"jsonrpc":"2.0","id":1,"error":"no"}`, "the error is not an object"},
		{"NaN", `{"jsonrpc":"2.0","id":1,"result":NaN}`, "expected a value at byte 33"},
		{"a comma at the end of an object", `{"jsonrpc":"2.0","method":"ping",}`, "expected the name of a member"},
		{"a comma at the end of an array", `{"jsonrpc":"2.0","method":"ping","params":[1,]}`, "expected a value"},
		{"a comma missing", `{"jsonrpc":"2.0" "method":"ping"}`, "expected , or } in an object"},
		{"a comma missing, deeper", `{"jsonrpc":"2.0","method":"ping","params":{"a":1 "b":2}}`, "expected , or } in an object"},
		{"a comma missing in an array", `{"jsonrpc":"2.0","method":"ping","params":[1 2]}`, "expected , or ] in an array"},
		{"a colon missing", `{"jsonrpc""2.0"}`, "expected : after the name of a member"},
		{"a name without quotes", `{jsonrpc:"2.0"}`, "expected the name of a member"},
		{"a control character in a string", "{\"jsonrpc\":\"2.0\",\"method\":\"ping\ttab\"}", "a control character in a string"},
		{"a string without its end", `{"jsonrpc":"2.0","method":"ping`, "a string without its end"},
		{"half an escape", `{"jsonrpc":"2.0","method":"ping\`, "unknown escape in a string"},
		{"an unknown escape", `{"jsonrpc":"2.0","method":"\x"}`, "unknown escape in a string"},
		{"a short \\u", `{"jsonrpc":"2.0","method":"\u12"}`, "expected four hexadecimal digits"},
		{"a leading zero", `{"jsonrpc":"2.0","method":"ping","params":[01]}`, "expected , or ] in an array"},
		{"a leading plus", `{"jsonrpc":"2.0","method":"ping","params":[+1]}`, "expected a value"},
		{"a bare minus", `{"jsonrpc":"2.0","method":"ping","params":[-]}`, "expected a digit"},
		{"a bare point", `{"jsonrpc":"2.0","method":"ping","params":[1.]}`, "expected a digit"},
		{"a bare exponent", `{"jsonrpc":"2.0","method":"ping","params":[1e+]}`, "expected a digit"},
		{"a cut literal", `{"jsonrpc":"2.0","method":"ping","params":[tru`, "expected a value"},
		{"cut in the middle", `{"jsonrpc":"2.0","method":"ping"`, "expected , or } in an object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := DecodeMessage([]byte(tt.line))
			if !errors.Is(err, ErrNotMessage) {
				t.Fatalf("got %+v and %v, want ErrNotMessage", m, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestDecodeMessageAllocatesNothing(t *testing.T) {
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded","value":{"words":[1,2,3]}}}`,
		`{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"run.1","record":{"task_id":"a"},"attempt":1}}`,
	} {
		raw := []byte(line)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := DecodeMessage(raw); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for %s", n, line)
		}
	}
}

func TestLooksLikeMessage(t *testing.T) {
	tests := []struct {
		line string
		want bool
	}{
		{`{"jsonrpc":"2.0"`, true},
		{" \t{ x \"jsonrpc\"", true},
		{`{"json":1}`, false},
		{`see {"jsonrpc":"2.0"}`, false},
		{`[{"jsonrpc":"2.0"}]`, false},
		{``, false},
		{`{'jsonrpc': '2.0'}`, false},
	}
	for _, tt := range tests {
		if got := LooksLikeMessage([]byte(tt.line)); got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.line, got, tt.want)
		}
	}
}

func TestFindID(t *testing.T) {
	tests := []struct {
		name, prefix, want string
	}{
		{"cut after the id", `{"jsonrpc":"2.0","id":7,"result":{"value":"xxx`, "7"},
		{"cut in a number: there may be more of it", `{"jsonrpc":"2.0","id":7`, ""},
		{"a string", `{"id":"a\"b","result":`, `"a\"b"`},
		{"cut in a string", `{"id":"ab`, ""},
		{"not at the top level", `{"jsonrpc":"2.0","params":{"id":7},"x":[{"id":8}],"me`, ""},
		{"after nested values", `{"params":{"a":[1,{"b":"}]"}],"id":8},"id":7,`, "7"},
		{"NaN before it", `{"jsonrpc":"2.0","result":NaN,"id":7}`, "7"},
		{"NaN in an array before it", `{"jsonrpc":"2.0","result":[NaN, -Infinity],"id":7}`, "7"},
		{"a tab in a string before it", "{\"a\":\"\t\",\"id\":7}", "7"},
		{"an escaped name", `{"\u0069d":7,`, "7"},
		{"twice the same", `{"id":7,"id":7,`, "7"},
		{"two different ones", `{"id":7,"id":8,`, ""},
		{"null", `{"id":null,`, ""},
		{"an object", `{"id":{},`, ""},
		{"not a number", `{"id":07,`, ""},
		{"too long", `{"id":"` + strings.Repeat("x", MaxIDBytes) + `",`, ""},
		{"no object", `["id",7,`, ""},
		{"the word as a value", `{"method":"id","x":7,`, ""},
		{"nothing", ``, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, ok := FindID([]byte(tt.prefix))
			if string(id) != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", id, ok, tt.want)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"a request", AppendRequest(nil, 7, "ping", []byte("{}")), `{"jsonrpc":"2.0","id":7,"method":"ping","params":{}}`},
		{"a request without params", AppendRequest(nil, 7, "ping", nil), `{"jsonrpc":"2.0","id":7,"method":"ping"}`},
		{"a notification", AppendNotification(nil, "shutdown", []byte(`{"budgetMs":1}`)), `{"jsonrpc":"2.0","method":"shutdown","params":{"budgetMs":1}}`},
		{"P3 line ends become spaces", AppendNotification(nil, "log", []byte("{\r\n}")), `{"jsonrpc":"2.0","method":"log","params":{  }}`},
		{"P10 the id as it came", AppendResult(nil, []byte(`"a\u0062"`), []byte("1")), `{"jsonrpc":"2.0","id":"a\u0062","result":1}`},
		{"an empty result", AppendResult(nil, []byte("7"), nil), `{"jsonrpc":"2.0","id":7,"result":{}}`},
		{"an error", AppendError(nil, []byte("7"), &Error{CodeInternal, "a\"b\n", json.RawMessage("[\n]")}), `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"a\"b\n","data":[ ]}}`},
		{"an error without an id", AppendError(nil, nil, &Error{Code: CodeParse}), `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}`},
		{"after what is there", AppendNotification([]byte("x"), "m", nil), `x{"jsonrpc":"2.0","method":"m"}`},
	}
	for _, tt := range tests {
		if string(tt.got) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}

func TestError(t *testing.T) {
	err := fmt.Errorf("task 7: %w", Errorf(CodeCancelled, "given up by %s", "me"))
	if !errors.Is(err, CodeCancelled) || errors.Is(err, CodeNotStarted) {
		t.Error("errors.Is does not tell codes apart")
	}
	var e *Error
	if !errors.As(err, &e) || e.Error() != "given up by me (-32800)" {
		t.Errorf("got %v", e)
	}
	for code, want := range map[Code]string{
		CodeParse: "parse error (-32700)", CodeInvalidRequest: "invalid request (-32600)",
		CodeMethodNotFound: "method not found (-32601)", CodeInvalidParams: "invalid params (-32602)",
		CodeInternal: "internal error (-32603)", CodeCancelled: "cancelled (-32800)",
		CodeNotStarted: "not started (-32001)", CodeDeliveryEnded: "delivery ended or unknown (-32002)",
		-1: "error -1 (-1)",
	} {
		if got := (&Error{Code: code}).Error(); got != want {
			t.Errorf("%d: %q, want %q", int(code), got, want)
		}
	}
}
