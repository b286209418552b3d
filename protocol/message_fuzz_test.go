package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// depth is how deep valid JSON nests.
func depth(raw []byte) (deepest int) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	now := 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			now++
			deepest = max(deepest, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// names lists the names of an object's members, in order and with repetitions.
func names(t *testing.T, object []byte) (all []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name.(string))
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// oracle is DecodeMessage on top of encoding/json. ok is whether line is a
// message; members are what it is made of.
func oracle(t *testing.T, line []byte) (members map[string]json.RawMessage, ok bool) {
	if !json.Valid(line) || !utf8.Valid(line) || depth(line) > MaxDepth {
		return nil, false
	}
	if json.Unmarshal(line, &members) != nil || members == nil {
		return nil, false
	}
	seen := map[string]int{}
	for _, name := range names(t, line) {
		seen[name]++
	}
	for _, name := range []string{"jsonrpc", "id", "method", "params", "result", "error"} {
		if seen[name] > 1 {
			return nil, false
		}
	}
	text := func(raw json.RawMessage) (s string, ok bool) {
		return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
	}
	if v, ok := text(members["jsonrpc"]); !ok || v != "2.0" {
		return nil, false
	}
	id, hasID := members["id"]
	null := string(id) == "null"
	if hasID && (len(id) > MaxIDBytes || !null && !strings.ContainsAny(string(id[:1]), `"-0123456789`)) {
		return nil, false
	}
	if p, ok := members["params"]; ok && p[0] != '{' && p[0] != '[' {
		return nil, false
	}
	if e, ok := members["error"]; ok {
		var parts map[string]json.RawMessage
		if e[0] != '{' || json.Unmarshal(e, &parts) != nil {
			return nil, false
		}
		if _, err := strconv.ParseInt(string(parts["code"]), 10, 32); err != nil {
			return nil, false
		}
		if _, ok := text(parts["message"]); !ok {
			return nil, false
		}
	}
	if raw, ok := members["method"]; ok {
		m, ok := text(raw)
		return members, ok && m != "" && seen["result"]+seen["error"] == 0 && !null
	}
	return members, seen["result"]+seen["error"] == 1 && seen["params"] == 0 && hasID && (!null || seen["error"] == 1)
}

// DecodeMessage takes what encoding/json takes, and reads the same from it.
func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"r.1","record":{"task_id":"a","x":[1.5e-3,true,null,"\ud83d\ude00"]}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":"a","error":{"code":-32001,"message":"no","data":{}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := DecodeMessage(line)
		want, ok := oracle(t, line)
		if (err == nil) != ok {
			t.Fatalf("DecodeMessage says %v, encoding/json says message: %v", err, ok)
		}
		if err != nil {
			return
		}
		same := func(name string, got []byte) {
			raw, there := want[name]
			if there != (got != nil) || !bytes.Equal(got, raw) {
				t.Errorf("%s: got %q, encoding/json has %q", name, got, raw)
			}
		}
		same("id", m.ID)
		same("params", m.Params)
		same("result", m.Result)
		var method string
		if raw, there := want["method"]; there && json.Unmarshal(raw, &method) != nil || method != m.Method {
			t.Errorf("method: got %q, encoding/json has %q", m.Method, method)
		}
		if raw, there := want["error"]; there != (m.Error != nil) {
			t.Errorf("error: got %v, encoding/json has %s", m.Error, raw)
		} else if there {
			var parts map[string]json.RawMessage
			var message string
			if json.Unmarshal(raw, &parts) != nil || json.Unmarshal(parts["message"], &message) != nil {
				t.Fatalf("the oracle cannot read %s", raw)
			}
			code, err := strconv.Atoi(string(parts["code"]))
			if err != nil || Code(code) != m.Error.Code || message != m.Error.Message {
				t.Errorf("error: got %+v, encoding/json has %s", m.Error, raw)
			}
		}
		roundTrip(t, &m)
	})
}

// roundTrip checks that a message that was read can be written and read again.
func roundTrip(t *testing.T, m *Message) {
	var line []byte
	switch {
	case m.Error != nil:
		line = AppendError(nil, m.ID, m.Error)
	case m.IsResponse():
		line = AppendResult(nil, m.ID, m.Result)
	default:
		line = AppendNotification(nil, m.Method, m.Params)
	}
	if bytes.ContainsAny(line, "\r\n") {
		t.Errorf("a line end inside %q", line)
	}
	again, err := DecodeMessage(line)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v: %s", err, line)
	}
	if again.Method != m.Method || again.Error != nil && again.Error.Message != m.Error.Message {
		t.Errorf("got %+v, wrote %+v", again, m)
	}
}

// FindID never finds another id than the one that the whole message has, however
// much of it is there, and finds every id that P11 puts into the window.
func FuzzFindID(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded","value":"xxx"}}`), 40)
	f.Add([]byte(`{"jsonrpc":"2.0","result":NaN,"id":"a\u0062"}`), 30)
	f.Fuzz(func(t *testing.T, line []byte, at int) {
		if at < 0 || at > len(line) {
			at = len(line)
		}
		id, ok := FindID(line[:at])
		if ok != (id != nil) || ok && !isID(id) {
			t.Fatalf("got %q, %v", id, ok)
		}
		m, err := DecodeMessage(line)
		if err != nil {
			return
		}
		if ok && !bytes.Equal(id, m.ID) {
			t.Errorf("found %q in the first %d bytes, the id is %q", id, at, m.ID)
		}
		if m.ID == nil || string(m.ID) == "null" {
			return
		}
		if id, _ := FindID(line); !bytes.Equal(id, m.ID) {
			t.Errorf("found %q in the whole line, the id is %q", id, m.ID)
		}
	})
}
