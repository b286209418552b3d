package task

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

const graflows = `{"task_id": "a", "session_id": "s", "graph_hash": "h", "trace_id": "t", "created_at": 1732335600.10, "group_id": "g", "parent_span_id": null}`

// FuzzScan: what scan takes, encoding/json reads the same.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		graflows, `{"task_id":"a","params":{"x":[1,"}"],"y":"\""},"timeout":1.5}`, ` { "task_id" : "a" , "x" : true } `,
		`{"task_id":"a","Task_ID":"b"}`, `{"task_id":"a","task_id":"b"}`, `{"task_id":"a\u0062"}`, `{"task_id":"a","created_at":01}`,
		`{"task_id":"a","created_at":"1"}`, `{"task_id":"a",}`, `{"task_id":"a"}}`, `{"task_id":"a","x":-}`, "{\"task_id\":\"a\x01\"}",
		"{\"task_id\":\"a\",\"\u017fession_id\":\"b\"}", `{"task_id":"a","x":"\x"}`, `{"task_id":"a","timeout":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		if trimmed := bytes.TrimLeft(record, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' || !utf8.Valid(record) {
			return
		}
		got, ok := scan(record)
		if !ok {
			return
		}
		want, err := decode(record)
		if err != nil || got != want {
			t.Errorf("%q: scan reads %+v, encoding/json %+v, %v", record, got, want, err)
		}
	})
}

// What Graflow writes must not need encoding/json, and neither should a record
// with parameters.
func TestScanTakesWhatIsCommon(t *testing.T) {
	for _, record := range []string{graflows, `{"task_id":"a","params":{"text":"\"quoted\""},"timeout":2}`} {
		if _, ok := scan([]byte(record)); !ok {
			t.Errorf("not taken: %s", record)
		}
	}
	for _, record := range []string{`{}`, `{"task_id":"a"} x`, `{"task_id":"a" "x":1}`, `{"task_id":"a","timeout":-1}`, `{"task_id":"a","x":[}`, `{"task_id":`} {
		if _, ok := scan([]byte(record)); ok {
			t.Errorf("taken: %s", record)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	record := []byte(strings.Replace(graflows, `"t"`, `"`+strings.Repeat("0", 150)+`"`, 1))
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			if _, err := Decode(record); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			if _, err := decode(record); err != nil {
				b.Fatal(err)
			}
		}
	})
}
