package logdocs

import (
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// repository is where a reader of the program's output finds the other documents.
const repository = "https://github.com/graflow/graflow-sidecar/blob/main/"

// Text returns the body of the section as text for a terminal of a width, without
// the marks of Markdown.
func (s Section) Text(width int) string {
	var b strings.Builder
	for block := range strings.SplitSeq(s.body, "\n\n") {
		lines := strings.Split(block, "\n")
		switch {
		case strings.HasPrefix(block, "|"):
			writeTable(&b, lines, width)
		case strings.HasPrefix(block, "- "):
			for item := range strings.SplitSeq(block[2:], "\n- ") {
				wrap(&b, "- ", "  ", item, width)
			}
		default:
			wrap(&b, "", "", block, width)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// writeTable writes a row as its first cell and, indented, the others with the heads of
// their columns: a terminal has no room for them side by side.
func writeTable(b *strings.Builder, lines []string, width int) {
	var heads []string
	for n, line := range lines {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if n == 0 {
			heads = cells
		}
		if n < 2 { // the heads, and the line below them
			continue
		}
		wrap(b, "  ", "  ", cells[0], width)
		for i := 1; i < len(cells) && i < len(heads); i++ {
			if strings.TrimSpace(cells[i]) != "" {
				wrap(b, "    ", "      ", strings.TrimSpace(heads[i])+": "+strings.TrimSpace(cells[i]), width)
			}
		}
	}
}

// wrap writes words as lines of at most width characters; a longer word has a line of
// its own.
func wrap(b *strings.Builder, first, rest, text string, width int) {
	b.WriteString(first)
	used, empty := utf8.RuneCountInString(first), true
	for word := range strings.FieldsSeq(plain(strings.Join(strings.Fields(text), " "))) {
		n := utf8.RuneCountInString(word)
		switch {
		case empty:
		case used+1+n > width:
			b.WriteString("\n" + rest)
			used = utf8.RuneCountInString(rest)
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used, empty = used+n, false
	}
	b.WriteByte('\n')
}

var (
	link     = regexp.MustCompile(`\[([^]]+)\]\(([^)]+)\)`)
	emphasis = regexp.MustCompile(`\*{1,2}([^* ][^*]*)\*{1,2}`)
)

// plain takes the marks of links and emphasis out of one line of Markdown. Code keeps
// its backquotes, which show where it ends.
func plain(text string) string {
	text = link.ReplaceAllStringFunc(text, func(whole string) string {
		match := link.FindStringSubmatch(whole)
		return destination(match[1], match[2])
	})
	parts := strings.Split(text, "`") // every second one is code
	for i := 0; i < len(parts); i += 2 {
		parts[i] = emphasis.ReplaceAllString(parts[i], "$1")
	}
	return strings.Join(parts, "`")
}

// destination is a link in words: to a section its command, to another document its
// address.
func destination(text, target string) string {
	if anchor, within := strings.CutPrefix(target, "#"); within {
		for _, s := range Sections() {
			if slug(s.Title) == anchor {
				return text + " (" + Command(s.Entries[0].ID) + ")"
			}
		}
		return text
	}
	if !strings.Contains(target, "://") {
		target = repository + path.Join("docs", target)
	}
	if strings.HasSuffix(text, ".md") {
		return target
	}
	return text + " (" + target + ")"
}

var notInSlugs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// slug is the anchor that GitHub gives to a heading.
func slug(title string) string {
	return strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}
