package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"
)

func TestTablesFitTheTerminal(t *testing.T) {
	rows := [][]string{
		{"short", strings.Repeat("long ", 40), "日本語のとても長いテキストです"},
		{strings.Repeat("x", 30), "b", "c"},
	}
	for _, width := range []int{40, 60, 100} {
		var b bytes.Buffer
		(&printer{w: &b, width: width}).table([]string{"A", "B", "C"}, rows)
		for line := range strings.SplitSeq(strings.TrimRight(b.String(), "\n"), "\n") {
			if w := uniseg.StringWidth(line); w > width {
				t.Errorf("%d columns on %d: %q", w, width, line)
			}
		}
		if !strings.Contains(b.String(), "…") || !strings.Contains(b.String(), "short") {
			t.Errorf("on %d:\n%s", width, b.String())
		}
	}
	var b bytes.Buffer
	(&printer{w: &b}).table([]string{"A", "B", "C"}, rows)
	if strings.Contains(b.String(), "…") || strings.Contains(b.String(), "\x1b") || !strings.Contains(b.String(), strings.TrimSpace(rows[0][1])) {
		t.Errorf("in a pipe:\n%s", b.String())
	}
}

func TestALongCellPadsNoOtherInAPipe(t *testing.T) {
	var b bytes.Buffer
	long := strings.Repeat("x", 10_000)
	(&printer{w: &b}).table([]string{"A", "B"}, [][]string{{"short", "1"}, {long, "2"}, {strings.Repeat("y", 100), "3"}})
	lines := strings.Split(b.String(), "\n")
	if len(lines[0]) > 300 || len(lines[1]) > 300 || lines[2] != long+"  2" {
		t.Errorf("lines of %d, %d and %d bytes", len(lines[0]), len(lines[1]), len(lines[2]))
	}
	if strings.Index(lines[0], "B") != strings.Index(lines[1], "1") || strings.Index(lines[1], "1") != strings.Index(lines[3], "3") {
		t.Errorf("the columns are not in line:\n%s", b.String())
	}
}

func TestNothingControlsTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain ü 日本": "plain ü 日本", "a\x1b[2Jb": `a\x1b[2Jb`, "a\nb\tc\rd": `a\nb\tc\rd`, "\u009b1m": `\u009b1m`,
		"\u202eevil": `\u202eevil`, "\xff\xfe": `\xff\xfe`, "\x7f": `\x7f`, "\u200b": `\u200b`, "\uFFFD": "\uFFFD", "\U000e0041": `\U000e0041`,
	} {
		if got := clean(text); got != want {
			t.Errorf("clean(%q) = %q, want %q", text, got, want)
		}
		if strings.Contains(text, "\xff") {
			continue // JSON has no such texts
		}
		marshalled, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		escaped, back := escapeJSON(string(marshalled)), ""
		if err := json.Unmarshal([]byte(escaped), &back); err != nil || back != text {
			t.Errorf("%q became %q: %v", text, back, err)
		}
		if clean(escaped) != escaped {
			t.Errorf("%q has control characters", escaped)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 20 * time.Millisecond: "20ms", 1500 * time.Millisecond: "1.5s", 200 * time.Second: "3m20s",
		90 * time.Minute: "1h30m", 50 * time.Hour: "2d02h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestSinceATimeThatIsNotKnown(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"none", time.Time{}, "-"},
		{"ahead", now.Add(time.Hour), "-"},
		{"a little ahead", now.Add(900 * time.Millisecond), "0s"},
		{"an hour ago", now.Add(-time.Hour - time.Second), "1h00m"},
	} {
		if got := since(c.at); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := died(c.at); strings.Contains(got, "ago") != (c.want != "-") || strings.Contains(got, "0001") {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
