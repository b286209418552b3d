package protocol

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The example session in PROTOCOL.md is made of messages that obey it.
func TestSessionInTheText(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{} // requests without a response yet: id → method
	lines := 0
	for raw := range strings.Lines(string(text)) {
		line, ours := strings.CutPrefix(strings.TrimSpace(raw), "→ ")
		if !ours {
			var theirs bool
			if line, theirs = strings.CutPrefix(line, "← "); !theirs {
				continue
			}
		}
		lines++
		m, err := DecodeMessage([]byte(line))
		if err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		switch {
		case m.IsRequest():
			open[string(m.ID)] = m.Method
			if m.Method == MethodTaskRun {
				if _, err := DecodeRunParams(m.Params); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			}
		case m.IsResponse():
			method, ok := open[string(m.ID)]
			if !ok {
				t.Errorf("P22: a response to nothing: %s", line)
			}
			delete(open, string(m.ID))
			if method == MethodTaskRun && m.Error == nil {
				if _, err := DecodeRunResult(m.Result); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			}
		}
		if m.IsRequest() && !ours || m.IsResponse() && ours {
			t.Errorf("in this session only the sidecar asks and only the worker answers: %s", line)
		}
	}
	if lines < 10 || len(open) != 0 {
		t.Errorf("%d messages, without a response: %v", lines, open)
	}
}

var rule = regexp.MustCompile(`\bP([0-9]+)\b`)

// Rules are numbered without a gap, and no file here cites one that is not there.
func TestRulesAreThere(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	defined := 0
	for raw := range strings.Lines(string(text)) {
		if strings.HasPrefix(raw, "**P") {
			defined++
			if want := "**P" + strconv.Itoa(defined) + "** "; !strings.HasPrefix(raw, want) {
				t.Fatalf("a rule begins with %.10q, want %q", raw, want)
			}
		}
	}
	if !bytes.Contains(text, []byte("**P24** A failure whose error has `\"retryable\":true`")) {
		t.Error("P24 is not the rule about retryable failures, which is cited elsewhere")
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		cited, err := citations(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range cited {
			if n < 1 || n > defined {
				t.Errorf("%s cites P%d; there are %d rules", e.Name(), n, defined)
			}
		}
	}
}

func citations(name string) (all []int, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for _, m := range rule.FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all, nil
}
