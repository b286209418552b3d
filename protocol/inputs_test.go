package protocol

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestInputsTravel(t *testing.T) {
	p := RunParams{Delivery: "r.1", Record: []byte(`{}`), Attempt: 1, Inputs: []Input{
		{"x", []byte(`{"a": 1.0}`)},
		{"", []byte("null")},
		{`"ä"`, []byte("[NaN]")},
		{"big", []byte("9007199254740993")},
		{"text", []byte("no JSON")},
		{"nothing", nil},
		{"bytes", []byte("\xff")},
	}}
	line := AppendTaskRun(nil, 1, p)
	const want = `{"jsonrpc":"2.0","id":1,"method":"task/run","params":{"delivery":"r.1","record":{},"attempt":1,"inputs":{` +
		`"x":{"value":{"a": 1.0}},"":{"value":null},"\"ä\"":{"valueText":"[NaN]"},"big":{"valueText":"9007199254740993"},` +
		`"text":{"valueText":"no JSON"},"nothing":{"value":null},"bytes":{"valueText":"\ufffd"}}}}`
	if string(line) != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}
	m, err := DecodeMessage(line)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRunParams(m.Params)
	if err != nil {
		t.Fatal(err)
	}
	p.Inputs[5].Text, p.Inputs[6].Text = []byte("null"), []byte("\ufffd")
	if !reflect.DeepEqual(got, p) {
		t.Errorf("got %+v, sent %+v", got, p)
	}
}

func TestInputsRefused(t *testing.T) {
	for inputs, why := range map[string]string{
		`[]`:                                     "not an object",
		`{"x":1}`:                                "an input is not an object",
		`{"x":{}}`:                               "without a value",
		`{"x":{"value":1,"valueText":""}}`:       "occurs twice",
		`{"x":{"valueText":1}}`:                  "not a string",
		`{"x":{"valueText":""}}`:                 "without a value",
		`{"x":{"value":NaN}}`:                    "expected a value",
		`{"x":{"value":1},"\u0078":{"value":1}}`: "an input occurs twice: x",
		`{"x":{"value":1}`:                       "expected ,",
	} {
		_, err := DecodeRunParams([]byte(`{"delivery":"d","record":{},"inputs":` + inputs + `}`))
		if !errors.Is(err, ErrBadParams) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", inputs, err, why)
		}
	}
	p, err := DecodeRunParams([]byte(`{"delivery":"d","record":{},"inputs":null}`))
	if err != nil || p.Inputs != nil {
		t.Errorf("null: %v, %v", p.Inputs, err)
	}
}

// FuzzInputs: whatever is read as inputs is what encoding/json reads, and the
// same when it is written again.
func FuzzInputs(f *testing.F) {
	f.Add([]byte(`{"x":{"value":[1.0]},"y":{"valueText":"NaN"},"z":{"new":1,"value":null}}`))
	f.Fuzz(func(t *testing.T, inputs []byte) {
		raw := append(append([]byte(`{"delivery":"d","record":{},"inputs":`), inputs...), '}')
		p, err := DecodeRunParams(raw)
		if err != nil {
			return
		}
		// Maps: a struct would take members of other spellings, too.
		var params map[string]json.RawMessage
		var want map[string]map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(raw, &params), json.Unmarshal(params["inputs"], &want)); err != nil {
			t.Fatalf("took %q: %v", raw, err)
		}
		if p.Inputs == nil {
			return // null, or a repetition of a member that means nothing here
		}
		for _, in := range p.Inputs {
			w, ok := want[in.Name]
			switch {
			case !ok:
				t.Errorf("encoding/json has no %q", in.Name)
			case w["valueText"] != nil:
				checkText(t, w, "valueText", string(in.Text))
			case string(w["value"]) != string(in.Text):
				t.Errorf("%q: got %q, encoding/json has %q", in.Name, in.Text, w["value"])
			}
		}
		m, err := DecodeMessage(AppendTaskRun(nil, 1, p))
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeRunParams(m.Params)
		if err != nil || len(again.Inputs) != len(p.Inputs) {
			t.Errorf("got %q, %v; wrote %q", again.Inputs, err, p.Inputs)
		}
	})
}
