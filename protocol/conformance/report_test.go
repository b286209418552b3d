package conformance

import (
	"strings"
	"testing"
)

// TestPrintEscapesWhatTheWorkerWrote: no control character of a worker reaches a terminal.
func TestPrintEscapesWhatTheWorkerWrote(t *testing.T) {
	const evil = "red\x1b[31m\u202e\x07\xff é\uFFFD"
	r := Report{Worker: evil, Results: []Result{
		{Requires: "a", Status: Failed, Seen: evil, Detail: evil + "\n\tmore\n"},
		{Requires: "b", Status: NotChecked, Seen: evil},
		{Requires: evil, Status: Passed},
	}}
	var out strings.Builder
	r.Print(&out)
	if strings.ContainsAny(out.String(), "\x1b\u202e\x07\r") {
		t.Errorf("control characters are in %q", out.String())
	}
	if want := `red\x1b[31m\u202e\a\xff é` + "\uFFFD"; strings.Count(out.String(), want) != 5 {
		t.Errorf("%q is not there five times in %s", want, out.String())
	}
	if !strings.Contains(out.String(), "\tmore\n") {
		t.Error("tabs and line ends are gone")
	}
}
