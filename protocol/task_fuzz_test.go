package protocol

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecodeRunResult: what is read is what encoding/json reads, and can be
// written and read again.
func FuzzDecodeRunResult(f *testing.F) {
	f.Add([]byte(`{"status":"succeeded","value":{"a":[1,2.5,"x"]}}`))
	f.Add([]byte(`{"status":"failed","error":{"type":"E","message":"m","stack":"s","retryable":true}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := DecodeRunResult(raw)
		if err != nil {
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) || depth(raw) > MaxDepth {
			t.Fatalf("took %q", raw)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Value, want["value"]) {
			t.Errorf("value: got %q, encoding/json has %q", r.Value, want["value"])
		}
		for name, got := range map[string]string{"status": r.Status, "valueText": r.ValueText} {
			checkText(t, want, name, got)
		}
		if e := r.Err; e != nil {
			var parts map[string]json.RawMessage
			if err := json.Unmarshal(want["error"], &parts); err != nil {
				t.Fatal(err)
			}
			for name, got := range map[string]string{"type": e.Type, "message": e.Message, "stack": e.Stack} {
				checkText(t, parts, name, got)
			}
			if !bytes.Equal(bytes.TrimSpace(e.RawMessage), parts["message"]) {
				t.Errorf("raw message: got %s, encoding/json has %s", e.RawMessage, parts["message"])
			}
			if e.Retryable != (string(parts["retryable"]) == "true") {
				t.Errorf("retryable: got %v, encoding/json has %s", e.Retryable, parts["retryable"])
			}
		}
		again, err := DecodeRunResult(AppendRunResult(nil, r))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		again.Value, r.Value = nil, nil // CR and LF in it are spaces now
		if r.Err != nil && again.Err != nil {
			again.Err.RawMessage, r.Err.RawMessage = nil, nil // not what is written
		}
		if !reflect.DeepEqual(again, r) {
			t.Errorf("got %+v, wrote %+v", again, r)
		}
	})
}

// checkText compares a text with what encoding/json decodes; null and absent are
// empty.
func checkText(t *testing.T, members map[string]json.RawMessage, name, got string) {
	t.Helper()
	var want string
	if raw, ok := members[name]; ok {
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
	}
	if got != want {
		t.Errorf("%s: got %q, encoding/json has %q", name, got, want)
	}
}

// FuzzRunParams: whatever record and texts go into a task/run, the line is one
// message and the same comes out.
func FuzzRunParams(f *testing.F) {
	f.Add("run.1", []byte("{\n\"task_id\": \"a\"}"), uint16(1), int64(1732335600000), "00-a-b-01")
	f.Fuzz(func(t *testing.T, delivery string, record []byte, attempt uint16, deadline int64, trace string) {
		if CheckJSON(record) != nil || !utf8.ValidString(delivery) || !utf8.ValidString(trace) || delivery == "" || deadline < 0 {
			return
		}
		p := RunParams{Delivery: delivery, Record: record, Attempt: max(1, int(attempt)), DeadlineUnixMs: deadline, Traceparent: trace}
		line := AppendTaskRun(nil, 1, p)
		if bytes.ContainsAny(line, "\r\n") {
			t.Fatalf("a line end inside %q", line)
		}
		m, err := DecodeMessage(line)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRunParams(m.Params)
		if err != nil {
			t.Fatal(err)
		}
		if id, fast, ok := decodeTaskRun(line); !ok || string(id) != "1" || !reflect.DeepEqual(fast, got) {
			t.Errorf("in one pass: %q, %+v, %v; in two %+v", id, fast, ok, got)
		}
		var a, b bytes.Buffer
		if json.Compact(&a, got.Record) != nil || json.Compact(&b, record) != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("record: got %q, sent %q", got.Record, record)
		}
		got.Record, p.Record = nil, nil
		if !reflect.DeepEqual(got, p) {
			t.Errorf("got %+v, sent %+v", got, p)
		}
	})
}

// FuzzDecodeSucceeded: what is read as a success without a value is one.
func FuzzDecodeSucceeded(f *testing.F) {
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded"}}`, `{"jsonrpc":"2.0","id":123456789012345678,"result":{"status":"succeeded"}}`,
		`{"jsonrpc":"2.0","id":07,"result":{"status":"succeeded"}}`, `{"jsonrpc":"2.0","id":-7,"result":{"status":"succeeded"}}`,
		`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded"}} `, `{"jsonrpc":"2.0","id":,"result":{"status":"succeeded"}}`,
		`{"jsonrpc":"2.0","id":1e3,"result":{"status":"succeeded"}}`, `{"jsonrpc":"2.0","id":7,"id":8,"result":{"status":"succeeded"}}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		id, ok := DecodeSucceeded(line)
		if !ok {
			return
		}
		m, err := DecodeMessage(line)
		if err != nil || string(m.ID) != strconv.FormatInt(id, 10) || !m.IsResponse() {
			t.Fatalf("%q is read as %d: %+v, %v", line, id, m, err)
		}
		if r, err := DecodeRunResult(m.Result); err != nil || !reflect.DeepEqual(r, RunResult{Status: StatusSucceeded}) {
			t.Errorf("%q: %+v, %v", line, r, err)
		}
	})
}

// What is common must be read the short way, by whichever SDK it was written.
func TestDecodeSucceededTakesWhatIsCommon(t *testing.T) {
	for _, line := range []string{`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded"}}`, string(benchResult)} {
		if _, ok := DecodeSucceeded([]byte(line)); !ok {
			t.Errorf("not taken: %s", line)
		}
	}
	own := AppendResult(nil, []byte("12"), AppendRunResult(nil, RunResult{Status: StatusSucceeded}))
	if id, ok := DecodeSucceeded(own); !ok || id != 12 {
		t.Errorf("%s is read as %d, %v", own, id, ok)
	}
}

// FuzzDecodeTaskRun: what is read in one pass is what two would have read.
func FuzzDecodeTaskRun(f *testing.F) {
	head := `{"jsonrpc":"2.0","id":7,"method":"task/run","params":`
	f.Add(benchRun)
	for _, rest := range []string{
		`{"delivery":"d","record":{}}}`, `{"delivery":"d","record":{},"attempt":2,"deadlineUnixMs":5,"_meta":{"traceparent":"t","x":[1]},"new":{"a":{}}} }`,
		`{"delivery":"d","record":{},"inputs":{"a":{"value":[1]},"b":{"valueText":"NaN"}}}}`, `{"delivery":"d","record":{}},"id":8}`, `{"delivery":"d","record":{}}`,
		`{"delivery":"d","record":` + strings.Repeat("[", 998) + strings.Repeat("]", 998) + `}}`, `{"delivery":"d","record":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `}}`,
		`}`, ``, `[]}`, `{"delivery":"d","delivery":"e","record":1}}`, "{\"delivery\":\"\xff\",\"record\":1}}",
	} {
		f.Add([]byte(head + rest))
	}
	f.Add([]byte(`{"jsonrpc":"2.0","id":07,"method":"task/run","params":{"delivery":"d","record":{}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		id, got, ok := decodeTaskRun(line)
		if !ok {
			return
		}
		m, err := DecodeMessage(line)
		if err != nil {
			t.Fatalf("%q was taken: %v", line, err)
		}
		want, err := DecodeRunParams(m.Params)
		if err != nil || m.Method != MethodTaskRun || !bytes.Equal(id, m.ID) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is read as %q, %+v; want %+v, %+v, %v", line, id, got, m, want, err)
		}
	})
}
