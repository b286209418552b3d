package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/protocol"
)

// A worker's answer in another form than a line of JSON is named by that form.
func TestMisframedAnswersAreNamed(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":2,"result":{"status":"succeeded"}}`
	for name, text := range map[string]string{
		"spread over several lines":    strings.ReplaceAll(answer, ",", ",\n"),
		"Content-Length":               "Content-Length: 56\r\n\r\n" + answer + "Content-Length: 56",
		"single quotes":                strings.ReplaceAll(answer, `"`, `'`),
		"a batch":                      "[" + answer + "]",
		"an escape sequence":           "\x1b[0m" + strings.Replace(answer, `"jsonrpc":"2.0",`, "", 1),
		"a JSON string":                fmt.Sprintf("%q", answer),
		"a print without a line end":   "loading" + answer,
		"a byte order mark":            "\uFEFF" + answer,
		"not in lower case":            strings.ReplaceAll(answer, "id", "Id") + "x",
		"text stands in front of it":   `loading{"id":2,"jsonrpc":"2.0","result":{"status":"succeeded"}}`,
		"several messages on the line": answer + answer,
	} {
		j, c := newJudge(), &connection{limit: protocol.DefaultMaxMessageBytes, capabilities: map[string]bool{}}
		for line := range strings.SplitSeq(text, "\n") {
			j.line(c, []byte(strings.TrimSuffix(line, "\r")))
		}
		if got := j.failures["always/framing"] + j.failures["always/valid"]; !strings.Contains(got, name) {
			t.Errorf("%q: got %q, want %s", text, got, name)
		}
	}
}
