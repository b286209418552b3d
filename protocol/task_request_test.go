package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeTaskRequest(t *testing.T) {
	for _, c := range []struct {
		method, params string
		want           TaskRequest
	}{
		{MethodChannelGet, `{"delivery":"r.1","key":"x.__result__"}`, TaskRequest{Delivery: "r.1", Key: "x.__result__"}},
		{MethodChannelGet, `{"delivery":"r.1","key":""}`, TaskRequest{Delivery: "r.1"}},
		{MethodChannelGet, `{"delivery":"r.1","keys":[]}`, TaskRequest{Delivery: "r.1", Keys: []string{}}},
		{MethodChannelGet, `{"keys" : [ "a" , "\u00e4" ] ,"delivery":"r.1"}`, TaskRequest{Delivery: "r.1", Keys: []string{"a", "ä"}}},
		{MethodChannelGet, `{"delivery":"r.1","key":null,"keys":["a"],"new":{"key":1},"new":2}`, TaskRequest{Delivery: "r.1", Keys: []string{"a"}}},
		{MethodChannelSet, `{"delivery":"r.1","key":"k","value":null}`, TaskRequest{Delivery: "r.1", Key: "k", Value: []byte(`null`)}},
		{MethodChannelSet, `{"delivery":"r.1","key":"k","value":{"a":[1.0]},"ttlMs":1}`, TaskRequest{Delivery: "r.1", Key: "k", Value: []byte(`{"a":[1.0]}`), TTLMs: 1}},
		{MethodChannelSet, `{"delivery":"r.1","key":"k","valueText":"[NaN, \"\\u00e4\"]"}`, TaskRequest{Delivery: "r.1", Key: "k", Value: []byte(`[NaN, "\u00e4"]`)}},
		{MethodChannelAdd, `{"delivery":"r.1","key":"k","amount":-1.5e3}`, TaskRequest{Delivery: "r.1", Key: "k", Amount: "-1.5e3"}},
		{MethodChannelLock, `{"delivery":"r.1","key":"k","timeoutMs":250}`, TaskRequest{Delivery: "r.1", Key: "k", TimeoutMs: 250}},
		{MethodChannelUnlock, `{"delivery":"r.1","key":"k","token":"t"}`, TaskRequest{Delivery: "r.1", Key: "k", Token: "t"}},
		{MethodTaskEnqueue, `{"delivery":"r.1","record":{"task_id":"t"}}`, TaskRequest{Delivery: "r.1", Record: []byte(`{"task_id":"t"}`)}},
	} {
		got, err := DecodeTaskRequest(c.method, []byte(c.params))
		if c.want.Amount == "" {
			c.want.Amount = "1"
		}
		if c.want.TimeoutMs == 0 {
			c.want.TimeoutMs = DefaultLockMs
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s:\n got %+v, %v\nwant %+v", c.method, c.params, got, err, c.want)
		}
	}
}

func TestDecodeTaskRequestRefuses(t *testing.T) {
	for _, c := range []struct{ method, params, why string }{
		{MethodChannelGet, ``, "not an object"},
		{MethodChannelGet, `[]`, "not an object"},
		{MethodChannelGet, `{"key":"k"}`, "no delivery"},
		{MethodChannelGet, `{"delivery":1,"key":"k"}`, "delivery is not a string"},
		{MethodChannelGet, `{"delivery":"d"}`, "neither key nor keys"},
		{MethodChannelGet, `{"delivery":"d","key":"k","keys":[]}`, "both key and keys"},
		{MethodChannelGet, `{"delivery":"d","key":"k","key":"l"}`, "occurs twice"},
		{MethodChannelGet, `{"delivery":"d","key":null,"key":"l"}`, "occurs twice"},
		{MethodChannelGet, `{"delivery":"d","keys":["a" "b"]}`, "expected ,"},
		{MethodChannelGet, `{"delivery":"d","keys":["a",]}`, "not a string"},
		{MethodChannelGet, `{"delivery":"d","keys":["a"`, "expected ,"},
		{MethodChannelGet, `{"delivery":"d","keys":[` + strings.Repeat(`"a",`, MaxKeys) + `"a"]}`, "more than 1000 keys"},
		{MethodChannelGet, `{"delivery":"d","key":"` + strings.Repeat("k", MaxKeyBytes+1) + `"}`, "65536 bytes"},
		{MethodChannelGet, "{\"delivery\":\"\xff\",\"key\":\"k\"}", "UTF-8"},
		{MethodChannelSet, `{"delivery":"d","key":"k"}`, "neither value nor valueText"},
		{MethodChannelSet, `{"delivery":"d","key":"k","value":1,"valueText":"1"}`, "both value and valueText"},
		{MethodChannelSet, `{"delivery":"d","key":"k","valueText":""}`, "empty valueText"},
		{MethodChannelSet, `{"delivery":"d","key":"k","valueText":1}`, "not a string"},
		{MethodChannelSet, `{"delivery":"d","key":"k","value":NaN}`, "expected a value"},
		{MethodChannelSet, `{"delivery":"d","key":"k","value":1,"ttlMs":0}`, "from 1"},
		{MethodChannelSet, `{"delivery":"d","key":"k","value":1,"ttlMs":-5}`, "whole number"},
		{MethodChannelSet, `{"delivery":"d","key":"k","value":1,"ttlMs":9223372036854775807}`, "from 1"},
		{MethodChannelAppend, `{"delivery":"d","key":"k","value":1,"ttlMs":1.5}`, "whole number"},
		{MethodChannelAdd, `{"delivery":"d","key":"k","amount":"1"}`, "not a number"},
		{MethodChannelAdd, `{"delivery":"d","key":"k","amount":` + strings.Repeat("1", 65) + `}`, "64 characters"},
		{MethodChannelLock, `{"delivery":"d","key":"k","timeoutMs":86400001}`, "from 1"},
		{MethodChannelUnlock, `{"delivery":"d","key":"k"}`, "no token"},
		{MethodTaskEnqueue, `{"delivery":"d"}`, "no record"},
		{MethodTaskEnqueue, `{"delivery":"d","record":[1]}`, "not an object"},
		{MethodTaskEnqueue, `{"delivery":"d","record":{}} x`, "more bytes"},
	} {
		if got, err := DecodeTaskRequest(c.method, []byte(c.params)); !errors.Is(err, ErrBadRequest) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s %.80s: got %+v, %v; want %q", c.method, c.params, got, err, c.why)
		}
	}
}

func TestIsTaskRequest(t *testing.T) {
	for _, method := range []string{MethodChannelGet, MethodChannelUnlock, MethodTaskEnqueue} {
		if !IsTaskRequest(method) {
			t.Errorf("%s is not one", method)
		}
	}
	for _, method := range []string{"", MethodTaskRun, MethodPing, "channel/clear"} {
		if IsTaskRequest(method) {
			t.Errorf("%q is one", method)
		}
	}
}

func TestAppendValue(t *testing.T) {
	for text, want := range map[string]string{
		"":                     `"value":null`,
		"null":                 `"value":null`,
		"1":                    `"value":1`,
		"1.0":                  `"value":1.0`,
		"9007199254740992":     `"value":9007199254740992`,
		"9007199254740993":     `"valueText":"9007199254740993"`,
		"-9007199254740993":    `"valueText":"-9007199254740993"`,
		"9007199254740993.5":   `"value":9007199254740993.5`,
		"NaN":                  `"valueText":"NaN"`,
		`{"a": [1, Infinity]}`: `"valueText":"{\"a\": [1, Infinity]}"`,
		"{\"a\":\n1}":          `"value":{"a": 1}`,
		"not JSON":             `"valueText":"not JSON"`,
		strings.Repeat("[", 996) + strings.Repeat("]", 996): `"value":` + strings.Repeat("[", 996) + strings.Repeat("]", 996),
		strings.Repeat("[", 997) + strings.Repeat("]", 997): `"valueText":"` + strings.Repeat("[", 997) + strings.Repeat("]", 997) + `"`,
	} {
		got, err := AppendValue(nil, []byte(text))
		if err != nil || string(got) != want {
			t.Errorf("%.40q: got %.60s, %v; want %.60s", text, got, err, want)
		}
	}
	if got, err := AppendValue([]byte("x"), []byte("\xff")); !errors.Is(err, ErrNotText) || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestMatchTask(t *testing.T) {
	for _, c := range []struct {
		pattern, id string
		want        bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"", "", true},
		{"*", "", true},
		{"*", "x.y/z", true},
		{"etl.*", "etl.load", true},
		{"etl.*", "etl.", true},
		{"etl.*", "etl", false},
		{"etl.*", "xetl.a", false},
		{"*.load", "etl.load", true},
		{"*.load", "etl.loads", false},
		{"a*b*c", "a__b__c", true},
		{"a*b*c", "abbc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"**", "x", true},
		{"a.b", "axb", false},
		{"[a]", "[a]", true},
		{"?", "x", false},
		{"ä*", "äö", true},
	} {
		if got := MatchTask(c.pattern, c.id); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.id, got)
		}
	}
}

// FuzzDecodeTaskRequest: what is read is what encoding/json reads.
func FuzzDecodeTaskRequest(f *testing.F) {
	for method := range needs {
		f.Add(method, []byte(`{"delivery":"r.1","key":"k","value":1,"ttlMs":5,"amount":-1.5,"timeoutMs":7,"token":"t","record":{"task_id":"x"}}`))
	}
	f.Add(MethodChannelGet, []byte(`{"delivery":"r.1","keys":["a","\ud83d\ude00"]}`))
	f.Add(MethodChannelSet, []byte(`{"delivery":"r.1","key":"k","valueText":"NaN"}`))
	f.Fuzz(func(t *testing.T, method string, raw []byte) {
		a, err := DecodeTaskRequest(method, raw)
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) || depth(raw) > MaxDepth {
			t.Fatalf("took %q", raw)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]string{"delivery": a.Delivery, "key": a.Key, "token": a.Token} {
			checkText(t, want, name, got)
		}
		if v, ok := want["value"]; ok && !bytes.Equal(a.Value, v) {
			t.Errorf("value: got %q, encoding/json has %q", a.Value, v)
		}
		if _, ok := want["valueText"]; ok && string(want["valueText"]) != "null" {
			checkText(t, want, "valueText", string(a.Value))
		}
		var keys []string
		if err := json.Unmarshal(orNull(want["keys"]), &keys); err != nil || !reflect.DeepEqual(keys, a.Keys) {
			t.Errorf("keys: got %q, encoding/json has %q, %v", a.Keys, keys, err)
		}
		if r := want["record"]; string(r) != "null" && !bytes.Equal(a.Record, r) {
			t.Errorf("record: got %q, encoding/json has %q", a.Record, r)
		}
	})
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}
