package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/protocol"
)

func run(ctx context.Context, record string) (string, error) {
	value, err := Handler(ctx, &protocol.Task{Delivery: "r.1", Record: json.RawMessage(record), Attempt: 1})
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(value)
	return string(raw), err
}

func TestHandler(t *testing.T) {
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("a b\na"), 0o600); err != nil {
		t.Fatal(err)
	}
	const empty = `"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	tests := []struct {
		name, record, want, err string
	}{
		{"primes by default", `{"task_id":"primes_17"}`, `{"count":78498,"largest":999983}`, ""},
		{"a graflow record, with members to ignore", `{"task_id":"primes","session_id":"s","graph_hash":"","created_at":1.5,"group_id":null,"params":{"to":100}}`, `{"count":25,"largest":97}`, ""},
		{"primes over segments", `{"task_id":"primes","params":{"from":999000,"to":2000003}}`, `{"count":70500,"largest":1999993}`, ""},
		{"primes of a far range", `{"task_id":"primes","params":{"from":999999999000,"to":1000000000000}}`, `{"count":38,"largest":999999999989}`, ""},
		{"squares of primes are none", `{"task_id":"primes","params":{"from":49,"to":50}}`, `{"count":0,"largest":0}`, ""},
		{"the smallest range", `{"task_id":"primes","params":{"from":2,"to":3}}`, `{"count":1,"largest":2}`, ""},
		{"an empty range", `{"task_id":"primes","params":{"from":7,"to":7}}`, `{"count":0,"largest":0}`, ""},
		{"primes of no range", `{"task_id":"primes","params":{"from":7,"to":5}}`, "", "params: from 7 to 5 is not a range within 0 to 1000000000000"},
		{"pi", `{"task_id":"pi.3","params":{"samples":200000,"seed":3}}`, `{"pi":3.13656,"inside":156828,"samples":200000}`, ""},
		{"pi of less than nothing", `{"task_id":"pi","params":{"samples":-1}}`, "", "params: samples is -1; it must be above 0"},
		{
			"words", `{"task_id":"words","params":{"text":"The cat,\nthe DOG's Äh äh\n","top":2}}`,
			`{"bytes":27,"lines":2,"words":6,"distinct":4,"sha256":"c06b5acc8cd44bc98c92419df25734f437d808fda54a814cf978a1b3ffb41e93","top":[{"word":"the","count":2},{"word":"äh","count":2}]}`, "",
		},
		{"words of nothing", `{"task_id":"words","params":{"text":""}}`, `{"bytes":0,"lines":0,"words":0,"distinct":0,` + empty + `,"top":[]}`, ""},
		{
			"words of a file", fmt.Sprintf(`{"task_id":"x","params":{"task":"words","path":%q}}`, file),
			`{"bytes":5,"lines":1,"words":3,"distinct":2,"sha256":"39e7de40023cb4372742d68a00224c4bd7e3a40a30b07a3ffb244d266dca401e","top":[{"word":"a","count":2},{"word":"b","count":1}]}`, "",
		},
		{"words of a folder", `{"task_id":"words","params":{"path":"/"}}`, "", "params: / is not a regular file"},
		{"words of a file that is not there", `{"task_id":"words","params":{"path":"/nowhere/at/all"}}`, "", "open /nowhere/at/all: no such file or directory"},
		{"words of two", `{"task_id":"words","params":{"text":"a","path":"/"}}`, "", "params: one of text and path is wanted"},
		{"words of none", `{"task_id":"words"}`, "", "params: one of text and path is wanted"},
		{"words, too many", `{"task_id":"words","params":{"text":"a","top":10001}}`, "", "params: top is 10001; it must be from 1 to 10000"},
		{"an unknown task", `{"task_id":"bake_a_cake"}`, "", `unknown task "bake" (task_id "bake_a_cake"): this worker does pi, primes, words`},
		{"an unknown kind", `{"task_id":"pi","params":{"task":"cake"}}`, "", `unknown task "cake" (task_id "pi"): this worker does pi, primes, words`},
		{"params of another shape", `{"task_id":"pi","params":[1]}`, "", "params: json: cannot unmarshal array into Go value of type tasks.piParams"},
		{"a record of another shape", `[]`, "", "decode the record: json: cannot unmarshal array"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := run(t.Context(), tt.record)
			switch {
			case tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)):
				t.Errorf("got error %v, want %s", err, tt.err)
			case tt.err == "" && (err != nil || got != tt.want):
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestHandlerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, record := range []string{
		`{"task_id":"pi","params":{"samples":1000000000000000}}`,
		`{"task_id":"primes","params":{"to":1000000000000}}`,
		`{"task_id":"words","params":{"text":"a"}}`,
	} {
		if _, err := run(ctx, record); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", record, err)
		}
	}
}

func TestUnknownTaskCanBeTold(t *testing.T) {
	if _, err := run(t.Context(), `{"task_id":""}`); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// A file without a space in it must not become one word.
func TestWordsOfOneLongWord(t *testing.T) {
	got, err := run(t.Context(), `{"task_id":"words","params":{"text":"`+strings.Repeat("x", 100_000)+`","top":1}}`)
	if err != nil {
		t.Fatal(err)
	}
	var v wordsValue
	if err := json.Unmarshal([]byte(got), &v); err != nil || v.Words != 390 || len(v.Top) != 1 || len(v.Top[0].Word) > maxWord+1 {
		t.Errorf("got %s, %v", got, err)
	}
}
