package remote

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/protocol"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct{ line, problem string }{
		{`{"type":"hello","v":1,"name":"n","version":"0"}`, ""},
		{`{"type":"welcome","v":3}`, ""},
		{`{"type":"refused","reason":"r"}`, ""},
		{`{"type":"stdin","child":"1","nonce":"n"}`, ""},
		{`{"type":"stdout","child":"1","nonce":"n"}`, ""},
		{`{"type":"start","child":"1","nonce":"n","process":"p","env":["A=1"]}`, ""},
		{`{"type":"started","child":"1","pid":7}`, ""},
		{`{"type":"failed","child":"1"}`, ""},
		{`{"type":"signal","child":"1","signal":15}`, ""},
		{`{"type":"exit","child":"1"}`, ""},
		{`{"type":"drain"}`, ""},
		{`{"type":"hangup"}`, ""},
		{`{"type":"bye"}`, ""},
		{`{"type":"of a later version","child":7.0}`, "cannot be read"},
		{`{"type":"of a later version","more":[1]}`, ""},
		{``, "cannot be read"},
		{`null`, "it has no type"},
		{`[]`, "cannot be read"},
		{`{"type":"hello"}`, `"hello" has no version`},
		{`{"type":"welcome","v":-1}`, `"welcome" has no version`},
		{`{"type":"stdin","child":"1"}`, "needs a child and its nonce"},
		{`{"type":"stdout","nonce":"n"}`, "needs a child and its nonce"},
		{`{"type":"stdin","nonce":"n","child":"` + strings.Repeat("1", maxID+1) + `"}`, "needs a child"},
		{`{"type":"start","child":"1","nonce":"n"}`, "and a process id"},
		{`{"type":"start","child":"1","nonce":"n","process":"a\u0000b"}`, "a zero byte"},
		{`{"type":"start","child":"1","nonce":"n","process":"p","env":["A=\u0000"]}`, "a zero byte"},
		{`{"type":"started","child":"1"}`, "and its pid"},
		{`{"type":"exit"}`, "needs a child"},
		{`{"type":"signal","child":"1","signal":19}`, "SIGTERM or SIGKILL"},
	} {
		_, err := decode([]byte(c.line))
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v, want %q", c.line, err, c.problem)
		}
	}
}

// TestTheFirstLineEndsWhereItEnds: the bytes after the line are a worker's output.
func TestTheFirstLineEndsWhereItEnds(t *testing.T) {
	r := strings.NewReader(`{"type":"stdout","child":"1","nonce":"n"}` + "\r\noutput\n")
	if m, err := first(r); err != nil || m.Child != "1" {
		t.Fatalf("%+v %v", m, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "output\n" {
		t.Errorf("left: %q", rest)
	}
	if _, err := first(strings.NewReader(strings.Repeat(" ", maxHello+1))); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
	if _, err := first(strings.NewReader("{")); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

func TestAMessageThatIsTooLong(t *testing.T) {
	if _, err := encode(message{Type: typeExit, Child: "1", Stderr: strings.Repeat("x", maxLine)}); err == nil {
		t.Error("it was sent")
	}
	err := listen(strings.NewReader(strings.Repeat("x", 2*maxLine)+"\n"), func(message) { t.Error("it was taken") })
	if _, ok := errors.AsType[*protocol.TooLongError](err); !ok {
		t.Errorf("%v", err)
	}
	if n := len(lastLines(strings.Repeat("\xff", 1<<20))); n > maxLine/2 {
		t.Errorf("%d bytes of stderr are told", n)
	}
}

// FuzzDecode: any input is refused, or decodes to a message that encodes and decodes to
// itself.
func FuzzDecode(f *testing.F) {
	for _, line := range []string{
		`{"type":"hello","v":1,"name":"n"}`, `{"type":"start","child":"1","nonce":"n","process":"p","env":["A=1"]}`,
		`{"type":"exit","child":"1","code":3,"stderr":"\ud800"}`, `{"type":"signal","child":"1","signal":9}`, `{"type":""}`, `{`, "\x00",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := decode(line)
		if err != nil {
			return
		}
		again, err := encode(m)
		if err != nil {
			if len(line) < maxLine/8 {
				t.Fatalf("%q cannot be said: %v", line, err)
			}
			return
		}
		if bytes.Count(again, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", again)
		}
		if m2, err := decode(bytes.TrimSuffix(again, []byte("\n"))); err != nil || !reflect.DeepEqual(normal(m), normal(m2)) {
			t.Fatalf("%+v became %+v, %v", m, m2, err)
		}
	})
}

// normal returns a message in which an empty list is nil.
func normal(m message) message {
	if len(m.Env) == 0 {
		m.Env = nil
	}
	return m
}

// FuzzFirst: any process may write the first line of a connection. It is read to its
// end and no further, and within its bound.
func FuzzFirst(f *testing.F) {
	for _, text := range []string{
		`{"type":"stdout","child":"1","nonce":"n"}` + "\nframes", "\n", "\r\n", "GET / HTTP/1.1\r\n\r\n", "", "{",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := bytes.NewReader(text)
		_, err := first(r)
		read := len(text) - r.Len()
		if read > maxHello+1 {
			t.Fatalf("it read %d bytes", read)
		}
		if end := bytes.IndexByte(text, '\n'); err == nil && read != end+1 {
			t.Fatalf("it read %d bytes of a line of %d", read, end+1)
		}
	})
}
