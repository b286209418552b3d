package conformance

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/protocol"
)

// unseen are the rules that the kit has no check for, and why.
var unseen = map[string]string{
	"P5":  "prints are allowed; the report counts them",
	"P14": "where a worker keeps its descriptors cannot be seen from outside; prints on stdout are counted",
	"P19": "what a worker's own children inherit cannot be seen from outside",
	"P32": "the sidecar watches the deadline; a worker may, but need not",
	"P34": "for the sidecar",
	"P46": "for the sidecar, which serves the channels",
	"P47": "for the sidecar, which serves the channels",
	"P48": "for the sidecar, which serves the channels",
	"P49": "for the sidecar, which serves the channels",
	"P50": "what the sidecar does about a fault; always/valid finds the fault",
	"P52": "what the sidecar does about a death",
	"P53": "for the sidecar, which serves the channels",
	"P54": "bounds what the sidecar serves at once",
	"P55": "what the sidecar does while Redis is away",
	"P56": "for the sidecar, which sends the inputs",
	"P57": "for the sidecar, which sends the inputs",
	"P58": "what the sidecar makes of a fault; always/framing and always/same-id find the fault",
	"P60": "what the sidecar does about a fault; always/framing finds the fault",
	"P61": "what the sidecar does about a fault; always/one-answer finds the fault",
	"P62": "what the sidecar does about a fault; always/last-line finds the fault",
}

// Every rule of PROTOCOL.md has a check or a reason to have none, and every
// check is about rules that are there.
func TestEveryRuleHasACheck(t *testing.T) {
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	dialogues, err := transcripts()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dialogues {
		for _, c := range d.checks {
			for _, rule := range c.rules {
				checked[rule] = true
			}
		}
	}
	for _, r := range always {
		for _, rule := range r.Rules {
			checked[rule] = true
		}
	}
	rules := regexp.MustCompile(`(?m)^\*\*(P\d+)\*\*`).FindAllStringSubmatch(string(text), -1)
	if len(rules) < 52 {
		t.Fatalf("%d rules found", len(rules))
	}
	for _, m := range rules {
		switch rule := m[1]; {
		case checked[rule] && unseen[rule] != "":
			t.Errorf("%s is checked and said to be unseen", rule)
		case !checked[rule] && unseen[rule] == "":
			t.Errorf("%s has no check", rule)
		}
		delete(checked, m[1])
	}
	for rule := range checked {
		t.Errorf("a check is about %s, which is no rule", rule)
	}
}

// What the transcripts send obeys the rules for the sidecar: one valid message a
// line, and each id once for a worker.
func TestTranscriptsObeyTheRules(t *testing.T) {
	dialogues, err := transcripts()
	if err != nil {
		t.Fatal(err)
	}
	tooLong := []string{`"id":61,`, `"id":63,`} // what limits/too-long is about
	for _, d := range dialogues {
		ids := map[string]bool{}
		for _, c := range d.checks {
			if d.mode == apart {
				clear(ids)
			}
			for _, s := range c.steps {
				if s.verb != "→" {
					continue
				}
				line, err := s.forTask(0).outgoing(records(1), "p")
				if err != nil {
					t.Errorf("%s: %v", s.where, err)
					continue
				}
				line = strings.TrimRight(line, "\r\n")
				m, err := protocol.DecodeMessage([]byte(line))
				if err != nil {
					t.Errorf("%s: %v", s.where, err)
				}
				if m.IsRequest() && m.Method != protocol.MethodInitialize {
					if ids[string(m.ID)] {
						t.Errorf("%s: the id %s occurs twice", s.where, m.ID)
					}
					ids[string(m.ID)] = true
				}
				isLong := slices.ContainsFunc(tooLong, func(id string) bool { return strings.Contains(line, id) })
				if d.name == "limits" && (len(line) > 4096) != isLong {
					t.Errorf("%s: %d bytes", s.where, len(line))
				}
			}
		}
	}
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		`a`:                      `a`,
		`${x3}-${]2}-${}1}${ 2}`: `xxx-]]-}  `,
		`{"p":"${pad 12}"}`:      `{"p":"xxxx"}`,
		`{"${pad 3}"}`:           `{""}`, // longer already
	} {
		if got, err := expand(in); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`${pad x}`, `${xy}`} {
		if got, err := expand(in); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}

func TestParseDialogue(t *testing.T) {
	good := "About.\n\nchained\nneeds slow\n\n-- one --\nP1 P2: this: and that\nneeds one\n\n# a word\neach → ping $i\n← 100 {\"a\":1} within 2s\n"
	d, err := parseDialogue("transcripts/10-name.txtar", good)
	if err != nil {
		t.Fatal(err)
	}
	c := d.checks[0]
	got := fmt.Sprint(d.name, d.mode, c.name, c.rules, c.requires, c.needs, len(c.steps), c.steps[0].each, c.steps[0].forTask(2).rest, c.steps[1].within, c.steps[1].where)
	want := "name chained name/one [P1 P2] this: and that [slow one] 2 true ping 102 2s transcripts/10-name.txtar:12"
	if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{
		"-- x --\nno rules\nclose\n",
		"-- x --\nP1: nothing\n",
		"-- x --\nP1: a\nfly away\n",
		"-- x --\nP1: a\nopen\n",
		"-- x --\nP1: a\nexit within soon\n",
		"-- x --\nP1: a\npause soon\n",
	} {
		if _, err := parseDialogue("t/1-x.txtar", bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
