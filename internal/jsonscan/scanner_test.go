package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is below the depth that encoding/json and jsontext refuse, 10,000.
const maxDepth = 5000

// FuzzScanner holds the scanner against two libraries: encoding/json, whose reading of
// JSON the sidecar falls back to, and jsontext, a reader of tokens that shares no code
// with it. They must agree about what is valid, about the names and values of an
// object's members, about strings and about numbers.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded","value":[1,2.5e-3,null,true,false]}}`,
		` { "a" : { } , "b" : [ ] , "a" : "\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00\ud800" } `,
		`[-0, 9007199254740993, -9007199254740992, 9007199254740993e1, 01, 1., 1e, -]`,
		`{"x":NaN,"y":-Infinity}`, "{\"a\":\"\t\"}", `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":1,}`, `[1,]`, `{"a" 1}`, `{a:1}`, `"`, `"\`, `tru`, ``,
		`"` + strings.Repeat("x", 20) + `\n` + strings.Repeat("y", 20) + `"`, strings.Repeat("[", 30) + strings.Repeat("]", 30),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		loose(t, text)
		if !utf8.Valid(text) || bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > maxDepth {
			return
		}
		s := Scanner{Data: text}
		s.Space()
		from := s.Pos
		ok := s.Value(maxDepth)
		to := s.Pos
		ok = ok && s.End()
		if s.Pos < 0 || s.Pos > len(text) || ok != (s.Problem == "") {
			t.Fatalf("%q: ends at %d, %v with %q", text, s.Pos, ok, s.Problem)
		}
		if want := json.Valid(text); ok != want {
			t.Fatalf("%q: got %v (%s at byte %d), encoding/json says %v", text, ok, s.Problem, s.Pos, want)
		}
		large, err := tokens(text)
		if ok != (err == nil) {
			t.Fatalf("%q: got %v (%s at byte %d), jsontext says %v", text, ok, s.Problem, s.Pos, err)
		}
		if !ok {
			return
		}
		if s.LargeInteger != large {
			t.Errorf("%q: large integer %v, want %v", text, s.LargeInteger, large)
		}
		value := text[from:to]
		skipped(t, value)
		switch value[0] {
		case '{':
			members(t, value)
		case '"':
			s := Scanner{Data: value}
			got, ok := s.Text()
			var want string
			if err := json.Unmarshal(value, &want); err != nil || !ok || string(got) != want {
				t.Errorf("%q: got %q, %v, encoding/json reads %q, %v", value, got, ok, want, err)
			}
		}
	})
}

// reader reads as leniently as encoding/json: names may occur twice, half of a surrogate
// pair stands for U+FFFD.
func reader(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// tokens reads one value with jsontext, and reports whether it has an integer beyond 2^53.
func tokens(text []byte) (large bool, err error) {
	d := reader(text)
	for depth := 0; ; {
		token, err := d.ReadToken()
		if err != nil {
			return large, err
		}
		switch token.Kind() {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '0':
			n, whole := new(big.Int).SetString(token.String(), 10)
			large = large || whole && n.CmpAbs(big.NewInt(1<<53)) > 0
		}
		if depth == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return large, errors.New("more than one value")
	}
	return large, nil
}

// members compares what the members of a valid object are.
func members(t *testing.T, object []byte) {
	s := Scanner{Data: object, Pos: 1}
	d := reader(object)
	if _, err := d.ReadToken(); err != nil {
		t.Fatal(err)
	}
	last := map[string]string{}
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		wantName, err := d.ReadToken()
		if err != nil {
			t.Fatalf("%q: a member %q that jsontext does not have: %v", object, name, err)
		}
		if string(name) != wantName.String() {
			t.Errorf("%q: name %q, jsontext reads %q", object, name, wantName.String())
		}
		wantValue, err := d.ReadValue()
		if err != nil {
			t.Fatal(err)
		}
		from := s.Pos
		s.Value(maxDepth)
		if got := s.Data[from:s.Pos]; !bytes.Equal(got, wantValue) {
			t.Errorf("%q: value %q, jsontext reads %q", object, got, wantValue)
		}
		last[string(name)] = string(s.Data[from:s.Pos])
	}
	if !s.End() || d.PeekKind() != '}' {
		t.Errorf("%q: %q at byte %d, jsontext goes on with %q", object, s.Problem, s.Pos, d.PeekKind())
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(object, &want); err != nil {
		t.Fatal(err)
	}
	if len(last) != len(want) {
		t.Errorf("%q: members %q, encoding/json reads %q", object, last, want)
	}
	for name, value := range want {
		if last[name] != string(value) {
			t.Errorf("%q: member %q is %q, encoding/json reads %q", object, name, last[name], value)
		}
	}
}

// skipped checks that Skip ends where a valid value ends, strict or loose.
func skipped(t *testing.T, value []byte) {
	for _, loose := range []bool{false, true} {
		s := Scanner{Data: append(bytes.Clone(value), ','), Loose: loose}
		if !s.Skip() || s.Pos != len(value) {
			t.Errorf("%q: skipped up to %d, %q", value, s.Pos, s.Problem)
		}
	}
}

// loose checks that Skip stays within any text, and that text which a strict Skip passes
// is passed by a loose one, too.
func loose(t *testing.T, text []byte) {
	strict := Scanner{Data: text}
	ok := strict.Skip()
	lax := Scanner{Data: text, Loose: true}
	if laxOK := lax.Skip(); lax.Pos > len(text) || strict.Pos > len(text) || ok && (!laxOK || lax.Pos != strict.Pos) {
		t.Errorf("%q: strict up to %d, %q, loose up to %d, %q", text, strict.Pos, strict.Problem, lax.Pos, lax.Problem)
	}
}

func TestValueIsBoundedInDepth(t *testing.T) {
	for _, text := range []string{`[[[1]]]`, `{"a":{"b":{"c":1}}}`, `[{"a":[]}]`} {
		for depth, want := range []string{"nested too deep", "nested too deep", "nested too deep", ""} {
			s := Scanner{Data: []byte(text)}
			if s.Value(depth); s.Problem != want {
				t.Errorf("%s, %d deep: got %q, want %q", text, depth, s.Problem, want)
			}
		}
	}
}

func TestLooseStrings(t *testing.T) {
	for text, end := range map[string]int{
		`"a\qb",`: 6, `"\u",`: 4, `"\u12",`: 6, "\"\x01\",": 3, `"a\",`: -1, `"\`: -1, `"`: -1,
	} {
		s := Scanner{Data: []byte(text), Loose: true}
		if ok := s.Skip(); ok != (end >= 0) || ok && s.Pos != end {
			t.Errorf("%s: got %v up to %d, want %d", text, ok, s.Pos, end)
		}
	}
}

func TestSkip(t *testing.T) {
	for text, want := range map[string]string{
		`NaN}`: "", `-Infinity,`: "", `[1}x`: "", `1 2`: "",
		`}`: "expected a value", `,`: "expected a value",
		`7`: "the text ends within a value", `[1`: "the text ends within a value", ``: "the text ends within a value",
		`"a`: "a string without its end", "\"\x01\"": "a control character in a string",
	} {
		s := Scanner{Data: []byte(text)}
		if s.Skip(); s.Problem != want {
			t.Errorf("%q: got %q, want %q", text, s.Problem, want)
		}
	}
}
