package logdocs

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		name, markdown, want string
	}{
		{"a paragraph", "one two three four five\nsix", "one two three four\nfive six\n"},
		{"two paragraphs", "one\n\ntwo", "one\n\ntwo\n"},
		{"a long word", "a 01234567890123456789012 b", "a\n01234567890123456789012\nb\n"},
		{"emphasis", "*one* and **two words**", "one and two words\n"},
		{"no emphasis in code", "`a:*` or `b-*`", "`a:*` or `b-*`\n"},
		{"a list", "- one two three four five\n  six\n- two", "- one two three four\n  five six\n- two\n"},
		{
			"a table", "| key | sense | remedy |\n| --- | --- | --- |\n| `a` | one two three four | wait |\n| `b` | | x |",
			"  `a`\n    sense: one two\n      three four\n    remedy: wait\n  `b`\n    remedy: x\n",
		},
		{"a link to a section", "[x](#redis-outage)", "x (sidecar explain\nredis-lost)\n"},
		{"a link to a document", "[a.md](a.md#b)", repository + "docs/a.md#b\n"},
		{"a link to an address", "[x](https://h/p)", "x (https://h/p)\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (Section{body: c.markdown}).Text(20); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// The text of each section fits, keeps all code, and has no marks of Markdown.
func TestTextOfEverySection(t *testing.T) {
	const width = 80
	for _, s := range Sections() {
		text := s.Text(width)
		for line := range strings.Lines(text) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > width && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("%s: a line is longer than %d: %s", s.Title, width, line)
			}
		}
		for _, mark := range []string{"](", "**", "|", "#"} {
			if strings.Contains(strings.ReplaceAll(text, ".md#", ""), mark) {
				t.Errorf("%s: the text has %q:\n%s", s.Title, mark, text)
			}
		}
		if strings.Count(text, "`") != strings.Count(s.body, "`") {
			t.Errorf("%s: the text has other code:\n%s", s.Title, text)
		}
	}
}
