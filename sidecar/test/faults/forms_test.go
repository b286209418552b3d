//go:build faults

package faults

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// form is the text of a worker's answer, with ID in place of the request's id.
type form struct {
	answer string
	words  string // part of the error of its task; empty where the answer is understood
}

const rightForm = `{"jsonrpc":"2.0","id":ID,"result":{"status":"succeeded"}}`

// forms are answers that break the protocol, by the Do of the record that asks for them.
var forms = map[string]form{
	"text in front":          {"loading 3 rows" + rightForm + "\n", "text stands in front of it on its line"},
	"an escape in front":     {"\x1b[0m" + rightForm + "\n", "an escape sequence stands in front of it"},
	"a NUL in front":         {"\x00" + rightForm + "\n", "a NUL stands in front of it"},
	"several lines":          {"{\n \"jsonrpc\": \"2.0\",\n \"id\": ID,\n \"result\": {\n  \"status\": \"succeeded\"\n }\n}\n", "it is spread over several lines"},
	"a header":               {"Content-Length: 58\r\n\r\n" + rightForm, "Content-Length header"},
	"no version":             {`{"id":ID,"result":{"status":"succeeded"}}` + "\n", `it has no "jsonrpc":"2.0"`},
	"another id":             {strings.Replace(rightForm, "ID", "4242", 1) + "\n", "an id that no request had: 4242"},
	"a dict":                 {strings.ReplaceAll(rightForm, `"`, "'") + "\n", "single quotes"},
	"a batch":                {"[" + rightForm + "]\n", "it stands in a batch"},
	"text in a long line":    {strings.Repeat("loading ", 20_000) + rightForm + "\n", "text stands in front of it on its line"},
	"an id behind a value":   {`{"result":{"status":"succeeded","value":"` + strings.Repeat("x", 100_000) + `"},"id":ID,"jsonrpc":"2.0"}` + "\n", "its line has 1000"},
	"a byte order mark":      {"\uFEFF" + rightForm + "\n", ""},
	"an id as text":          {strings.Replace(rightForm, "ID", `"ID"`, 1) + "\n", ""},
	"an id with a fraction":  {strings.Replace(rightForm, "ID", "ID.0", 1) + "\n", ""},
	"no line end":            {rightForm, ""},
	"an empty line in front": {"\n" + rightForm + "\n", ""},
}

// answerTo returns the answer to a request in a form; the right form is the default.
func answerTo(id, form string) string {
	return strings.ReplaceAll(cmp.Or(forms[form].answer, rightForm+"\n"), "ID", id)
}

// TestAnswersInTheWrongForm has a worker answer in each form that breaks the protocol. The
// task fails with an error that names the form, or the answer is understood; the same worker
// runs all other tasks, and no task runs twice.
func TestAnswersInTheWrongForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(setup{byHand: true, env: append([]string{"SIDECAR_MAX_MESSAGE_BYTES=65536"}, eager...)})
	s.ready(1)
	var children []int
	wait.Within(t, 30*time.Second, "both workers", func() bool {
		children = slices.Sorted(slices.Values(s.children()))
		return len(children) == 2
	})
	odd := map[string]string{} // group ids by form
	for _, do := range slices.Sorted(maps.Keys(forms)) {
		rs := w.work(6, 5)
		rs[2].Do = do
		w.hurt("an answer in the wrong form: " + do)
		odd[do] = w.group(rs...)
	}
	w.settle(30 * time.Second)
	if now := slices.Sorted(slices.Values(s.children())); !slices.Equal(children, now) {
		w.violation("workers are replaced: %v, %v", children, now)
	}
	left, _ := w.verify("answers in a form that cannot be recognised")
	for do, group := range odd {
		failures := []string{}
		for _, c := range left.Completions[group] {
			if !c.Success {
				failures = append(failures, *c.Error)
			}
		}
		switch want := forms[do].words; {
		case want == "" && len(failures) > 0:
			t.Errorf("%s: not understood: %q", do, failures)
		case want != "" && (len(failures) != 1 || !strings.Contains(failures[0], want)):
			t.Errorf("%s: failures %q, want one with %q", do, failures, want)
		}
	}
}
