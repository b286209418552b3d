package exec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
)

// Output is the format of what a process prints on its stdout.
type Output string

const (
	OutputText   Output = "text"   // UTF-8; invalid UTF-8 fails the task
	OutputBase64 Output = "base64" // any bytes; the result is a base64 string
	OutputLatin1 Output = "latin1" // ISO 8859-1, converted to UTF-8
)

// value returns the result of a task from the output of its process; nil means none.
// The error is a message for the producer.
func (o Output) value(out []byte) ([]byte, error) {
	switch o {
	case OutputBase64:
		if len(out) == 0 {
			return nil, nil
		}
		text := make([]byte, 0, base64.StdEncoding.EncodedLen(len(out))+2)
		return append(base64.StdEncoding.AppendEncode(append(text, '"'), out), '"'), nil
	case OutputLatin1:
		text := make([]byte, 0, len(out)+len(out)/8)
		for _, b := range out {
			text = utf8.AppendRune(text, rune(b))
		}
		return textValue(text), nil
	default:
		if at := firstInvalid(out); at >= 0 {
			return nil, fmt.Errorf("what the task printed on its stdout is not UTF-8 (byte 0x%02X at %d): "+
				"set the program's locale (LC_ALL=C.UTF-8), or SIDECAR_EXEC_OUTPUT to latin1 or, for any bytes, to base64", out[at], at)
		}
		return textValue(protocol.TrimByteOrderMark(out)), nil
	}
}

// firstInvalid returns the index of the first byte that is not UTF-8; -1 if there is
// none.
func firstInvalid(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// textValue returns the result for UTF-8 output: JSON as it is, digit for digit, and
// other text as a string without the line ends at its end, like $(…) of a shell. Empty
// output or white space is no result.
func textValue(out []byte) []byte {
	text := bytes.Trim(out, " \t\r\n")
	if len(text) == 0 {
		return nil
	}
	if protocol.CheckJSON(text) == nil {
		return text
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(string(bytes.TrimRight(out, "\r\n"))) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// longestMessage bounds the length of an error message.
const longestMessage = 4000

// longestOther bounds the length of the lines before the last one in an error message.
const longestOther = 256

// colours matches the colour sequences of terminals.
var colours = regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]`)

// errorMessage returns the last lines on stderr as an error message, or otherwise if
// there are none.
func errorMessage(stderr, otherwise string) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, colours.ReplaceAllLiteralString(stderr, ""))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines[:len(lines)-1] { // a long line would displace the others
		lines[i] = workerlog.Cut(line, longestOther)
	}
	text = strings.Join(lines, "\n")
	if len(text) > longestMessage {
		text = text[len(text)-longestMessage:]
		if _, rest, ok := strings.Cut(text, "\n"); ok && rest != "" {
			text = rest // complete lines only
		}
		text = "…" + strings.ToValidUTF8(text, "")
	}
	if text == "" {
		return otherwise
	}
	return text
}
