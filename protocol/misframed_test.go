package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
)

// utf16Text is what Windows calls Unicode.
func utf16Text(s string) string {
	var b bytes.Buffer
	b.WriteString("\xff\xfe")
	_ = binary.Write(&b, binary.LittleEndian, utf16.Encode([]rune(s)))
	return b.String()
}

const rightAnswer = `{"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":1}}`

func TestMisframedMessagesAreFoundAndNamed(t *testing.T) {
	pretty := "{\n \"jsonrpc\": \"2.0\",\n \"id\": 2,\n \"result\": {\n  \"status\": \"succeeded\",\n  \"value\": [\n   {\n    \"id\": 9\n   }\n  ]\n }\n}"
	for _, tt := range []struct{ name, text, flaw string }{
		{"after a print", "loading 3 rows" + rightAnswer, `it, text stands in front of it on its line: "loading 3 rows"`},
		{"after a print with a brace", "set {1, 2 " + rightAnswer, `it, text stands in front of it on its line: "set {1, 2"`},
		{"after a long print", strings.Repeat("x", 200) + rightAnswer, "it, text stands in front of it on its line: \"" + strings.Repeat("x", 60) + "\" and 140 bytes more"},
		{"after a print that opens an object", `{"progress": 5` + rightAnswer, `it, text stands in front of it on its line: "{\"progress\": 5"`},
		{"after a colour", "\x1b[0m" + rightAnswer, `it, an escape sequence stands in front of it on its line: "\x1b[0m"`},
		{"after a title", "\x1b]0;build\x07" + rightAnswer, `it, an escape sequence stands in front of it on its line: "\x1b]0;build\a"`},
		{"after a NUL", "\x00" + rightAnswer, `it, a NUL stands in front of it on its line: "\x00"`},
		{"after a record separator", "\x1e" + rightAnswer, `it, a control character stands in front of it on its line: "\x1e"`},
		{"as bytes of Python", `b'` + rightAnswer + `\n'`, `it, text stands in front of it on its line: "b'"`},
		{"after a carriage return", "50 %\r" + rightAnswer, `it, text stands in front of it on its line: "50 %"`},
		{"over several lines", pretty, "it is spread over several lines"},
		{"over several lines after a print", "answer: " + pretty, "it is spread over several lines"},
		{"over several lines, the id last", "{\n\"result\":{\"status\":\"succeeded\",\"value\":[\n" + strings.Repeat("1234567,\n", 1000) + "0\n]},\n\"id\":2,\n\"jsonrpc\":\"2.0\"\n}", "it is spread over several lines"},
		{"over several lines without a version", "{\n \"id\": 2,\n \"result\": {\n  \"status\": \"failed\",\n", "it is spread over several lines"},
		{"after a header", "Content-Length: 66\r\n\r\n" + rightAnswer + "\n", "it is framed with a Content-Length header"},
		{"after two headers", "Content-Type: application/json\r\ncontent-length: 66\r\n\r\n" + rightAnswer, "it is framed with a Content-Length header"},
		{"before the next header", rightAnswer + "Content-Length: 66", "it is framed with a Content-Length header"},
		{"without a version", `{"id":2,"result":{"status":"succeeded"}}`, `it has no "jsonrpc":"2.0"`},
		{"of JSON-RPC 1.0", `{"id":2,"result":{"status":"failed","error":{"message":"no"}},"error":null}`, `it has no "jsonrpc":"2.0"`},
		{"an error without a version", `{"id":2,"result":null,"error":{"code":-32001,"message":"no"}}`, `it has no "jsonrpc":"2.0"`},
		{"a colour and no version", "\x1b[0m" + `{"id":2,"result":{"status":"succeeded"}}`, `it, an escape sequence stands in front of it on its line: "\x1b[0m", and it has no "jsonrpc":"2.0"`},
		{"a dict of Python", `{'jsonrpc': '2.0', 'id': 2, 'result': {'status': 'succeeded', 'value': "it's {"}}`, "it has strings in single quotes, which is not JSON"},
		{"names in upper case", `{"Jsonrpc":"2.0","Id":2,"Result":{"Status":"succeeded"}}`, "the names of its members are not in lower case"},
		{"names in upper case without a version", `{"Id":2,"Result":{"Status":"Succeeded"}}`, `the names of its members are not in lower case, and it has no "jsonrpc":"2.0"`},
		{"a batch", `[` + rightAnswer + `]`, "it stands in a batch"},
		{"a JSON string", fmt.Sprintf("%q", rightAnswer), "it is a JSON string with the message in it"},
		{"a JSON string with its line end", fmt.Sprintf("%q", rightAnswer+"\n"), "it is a JSON string with the message in it"},
		{"UTF-16", utf16Text(rightAnswer), "it is in UTF-16"},
		{"text behind", rightAnswer + "done", `it, text stands behind it on its line: "done"`},
		{"Python's NaN", `{"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":NaN}}`, ""},
		{"in the middle of another", `{"jsonrpc":"2.0","id":7,"re` + rightAnswer + `sult":{}}`, `it, text stands in front of it on its line: "{\"jsonrpc\":\"2.0\",\"id\":7,\"re"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f MisframedFinder
			var found []Misframed
			for line := range strings.SplitSeq(tt.text, "\n") {
				found = append(found, f.Line([]byte(strings.TrimSuffix(line, "\r")))...)
			}
			if len(found) != 1 || string(found[0].ID) != "2" || found[0].Method != "" || !found[0].Outcome {
				t.Fatalf("found %+v", found)
			}
			if want := strings.TrimPrefix(tt.flaw, "it, "); found[0].Flaw != want {
				t.Errorf("got  %s\nwant %s", found[0].Flaw, want)
			}
		})
	}
}

func TestSeveralMisframedMessagesOnALine(t *testing.T) {
	var f MisframedFinder
	other := strings.Replace(rightAnswer, ":2,", `:"3",`, 1)
	found := f.Line([]byte(rightAnswer + other + ` {"jsonrpc":"2.0","id":"q","method":"channel/get","params":{"delivery":"r.1"}}`))
	var got []string
	for _, m := range found {
		got = append(got, string(m.ID)+m.Method)
	}
	if want := `2 "3" "q"channel/get`; strings.Join(got, " ") != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

// A line that is too long to be kept is looked at in parts, wherever it is cut.
func TestALineIsLookedAtInParts(t *testing.T) {
	for _, tt := range []struct{ text, flaw string }{
		{"loading {3} rows " + rightAnswer + " {done", "text stands in front of it on its line"},
		{`{"result":{"status":"succeeded"},"id":2,"jsonrpc":"2.0"}`, ""},
		{`{"result":{"status":"succeeded","value":"` + strings.Repeat("x", 100) + `"},"id":2}`, `it has no "jsonrpc":"2.0"`},
		{`row 2: {"id":2,"result":{"status":"succeeded"}}`, "nothing"},
	} {
		for i := range len(tt.text) {
			for _, j := range []int{i, (i + len(tt.text)) / 2, len(tt.text)} {
				var f MisframedFinder
				var found []Misframed
				for _, part := range []string{tt.text[:i], tt.text[i:j], tt.text[j:]} {
					found = append(found, f.Part([]byte(part))...)
				}
				found = append(found, f.Line(nil)...)
				switch {
				case tt.flaw == "nothing":
					if len(found) > 0 {
						t.Errorf("cut at %d and %d: found %+v", i, j, found)
					}
				case len(found) != 1 || string(found[0].ID) != "2" || !strings.HasPrefix(found[0].Flaw, tt.flaw):
					t.Fatalf("cut at %d and %d: found %+v, want %q", i, j, found, tt.flaw)
				}
				if found := f.Line([]byte("x" + rightAnswer)); len(found) != 1 || found[0].Flaw != `text stands in front of it on its line: "x"` {
					t.Fatalf("the next line: %+v", found)
				}
			}
		}
	}
}

// What users print stays a print.
func TestJSONThatIsNoAnswerIsNotFound(t *testing.T) {
	for _, text := range []string{
		"", "{", "}", "{}", "[]", "{{{{", "50 %", "{'a': 1}", "id: 2",
		`{"id":2}`, `{"id":2,"result":0.93}`, `{"id":2,"result":{"rows":3}}`, `{"id":2,"result":{"status":"done"}}`,
		`{"id":2,"error":{"code":404,"message":"not found"}}`, `{"id":2,"error":"no such row"}`,
		`{"status":"succeeded","value":1}`, `{"result":{"status":"succeeded"}}`,
		`{"level":"debug","sent":` + rightAnswer + `}`, `{"id":2,"x":{"result":{"status":"succeeded"}}}`,
		`[{"id":2,"result":{"status":"succeeded"}}]`, `row 2: {"id":2,"result":{"status":"succeeded"}}`,
		`{"id":2,"id":3,"result":{"status":"succeeded"}}`, `{"id":2,"result":[{"status":"succeeded"}]}`,
		`{"id":null,"result":{"status":"succeeded"}}`, `{"jsonrpc":"2.0","method":"log"}`,
		`sent "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}"`, `{"msg":"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}"}`,
		"{\n \"id\": 2,\n \"result\": {\n  \"rows\": 3\n }\n}\n", "[\n {\n  \"id\": 2\n }\n]",
		"Content-Length: 66\n\n{\"rows\":1}",
	} {
		var f MisframedFinder
		for line := range strings.SplitSeq(text, "\n") {
			if found := f.Line([]byte(line)); found != nil {
				t.Errorf("%q: found %+v", text, found)
			}
		}
	}
}

func TestTheTailOfAStreamIsLookedAtAndKept(t *testing.T) {
	for _, tt := range []struct{ lines, tail, flaw string }{
		{"", "loading" + rightAnswer, `its line has no end, and text stands in front of it on its line: "loading"`},
		{"Content-Length: 66\n\n", rightAnswer, "its line has no end, and it is framed with a Content-Length header"},
		{"", `{"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":nope}}`, "its line has no end"},
		{"{\n\"result\":{\"status\":\"failed\"},\"jsonrpc\":\"2.0\"\n", `,"id":2}`, ""},
	} {
		var f MisframedFinder
		for line := range strings.Lines(tt.lines) {
			f.Line(bytes.TrimSpace([]byte(line)))
		}
		for range 2 {
			found := f.Tail([]byte(tt.tail))
			if tt.flaw == "" {
				if found != nil { // told by an earlier line
					t.Errorf("%q: found %+v", tt.tail, found)
				}
				continue
			}
			if len(found) != 1 || string(found[0].ID) != "2" || found[0].Flaw != tt.flaw {
				t.Errorf("%q: found %+v, want %s", tt.tail, found, tt.flaw)
			}
		}
	}
}

func TestLooksLikeMessageLooksAtTheObjectItself(t *testing.T) {
	for line, want := range map[string]bool{
		rightAnswer: true, "  " + rightAnswer: true, `{"jsonrpc":"2.0",!!!`: true, `{"jsonrpc":`: true, `{"x":1,"jsonrpc":2}`: true,
		"": false, "{}": false, `{"x":1}`: false, `x{"jsonrpc":"2.0"}`: false, `{"sent":{"jsonrpc":"2.0"}}`: false, `{"a":"jsonrpc"}`: false,
	} {
		if got := LooksLikeMessage([]byte(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// A line that is one JSON object is found for what stands in that object itself,
// and a message that is written in any of the ways that people write JSON is found
// once, with its id.
func FuzzMisframed(f *testing.F) {
	f.Add([]byte(rightAnswer), []byte("loading"), uint8(0))
	f.Add([]byte(`{"id":"2","result":{"status":"succeeded"}}`), []byte("\x1b[0m"), uint8(1))
	f.Fuzz(func(t *testing.T, line, front []byte, indent uint8) {
		var finder MisframedFinder
		found := finder.Line(line)
		finder.Line(front)
		finder.Tail(line)
		if len(bytes.TrimLeft(line, " \t")) > 0 && bytes.TrimLeft(line, " \t")[0] == '{' && json.Valid(line) {
			if want := meant(t, line); len(found) > 1 || (len(found) == 1) != want {
				t.Errorf("found %+v in %q, wanted: %v", found, line, want)
			}
		}
		m, err := DecodeMessage(line)
		if err != nil || !m.IsResponse() || m.ID == nil || string(m.ID) == "null" || bytes.IndexByte(m.ID, '\\') >= 0 || strings.Contains(string(line), `\u`) {
			return
		}
		var text bytes.Buffer
		if err := json.Indent(&text, line, "", strings.Repeat(" ", int(indent%4))); err != nil {
			t.Fatal(err)
		}
		if front = bytes.Map(func(r rune) rune {
			if r == '{' || r == '\n' || r == '"' {
				return -1
			}
			return r
		}, front); isWide(append(bytes.Clone(front), line...)) {
			return
		}
		for _, way := range []string{string(front) + string(line), text.String(), string(front) + text.String(), "[" + string(line) + "]"} {
			var all []Misframed
			finder = MisframedFinder{}
			for part := range strings.SplitSeq(way, "\n") {
				all = append(all, finder.Line([]byte(part))...)
			}
			if len(all) != 1 || !bytes.Equal(all[0].ID, m.ID) {
				t.Errorf("found %+v in %q, want the id %s", all, way, m.ID)
			}
		}
	})
}

// meant is objectScan.isMessage on top of encoding/json, of an object that begins
// its line.
func meant(t *testing.T, line []byte) bool {
	t.Helper()
	members := map[string][]json.RawMessage{}
	dec := json.NewDecoder(bytes.NewReader(line))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		var v json.RawMessage
		if err != nil || dec.Decode(&v) != nil {
			t.Fatalf("%q: %v", line, err)
		}
		members[strings.ToLower(name.(string))] = append(members[strings.ToLower(name.(string))], v)
	}
	scalar := func(v json.RawMessage) bool { return v[0] != '{' && v[0] != '[' }
	var id string
	for _, v := range members["id"] {
		if !scalar(v) || len(v) > maxToken {
			continue
		}
		switch text := string(v); {
		case id == "" && text != "null":
			id = text
		case id != text:
			return false
		}
	}
	var method, version, result, failed, outcome bool
	for _, v := range members["method"] {
		if v[0] == '"' {
			method = string(v) != `""`
		}
	}
	for _, v := range members["jsonrpc"] {
		version = version || scalar(v)
	}
	for _, v := range members["result"] {
		result = true
		for _, status := range within(v, "status") {
			s := strings.ToLower(status)
			outcome = outcome || s == `"succeeded"` || s == `"failed"`
		}
	}
	for _, v := range members["error"] {
		failed = failed || string(v) != "null" && string(v) != `"null"` && string(v) != `"None"`
		for _, code := range within(v, "code") {
			outcome = outcome || len(code) == 6 && strings.HasPrefix(code, "-32")
		}
	}
	switch {
	case method:
		return id != ""
	case version:
		return result || failed
	default:
		return id != "" && outcome
	}
}

// within lists the values of the members of an object that have a name.
func within(object json.RawMessage, name string) (all []string) {
	if object[0] != '{' {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	_, _ = dec.Token()
	for dec.More() {
		token, err := dec.Token()
		var v json.RawMessage
		if err != nil || dec.Decode(&v) != nil {
			return nil
		}
		if strings.EqualFold(token.(string), name) {
			all = append(all, string(v))
		}
	}
	return all
}
