package clean

import "strings"

// plain is what is left of a text: tags and control characters are gone, white
// space is one space, and none at either end. Only ASCII counts as any of these,
// so that every language's tables of Unicode give the same text.
func plain(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	space := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '<':
			if end := tag(text[i:]); end > 0 {
				i += end - 1
				c = ' '
			}
		case c == '\t', c == '\n', c == '\v', c == '\f', c == '\r':
			c = ' '
		case c < ' ', c == 0x7f:
			continue
		}
		if c == ' ' {
			space = b.Len() > 0
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteByte(c)
	}
	return b.String()
}

// tag is the length of the tag that a text begins with, 0 if it is none: a "<"
// with a ">" before the next "<".
func tag(text string) int {
	end := strings.IndexAny(text[1:], "<>")
	if end < 0 || text[1+end] == '<' {
		return 0
	}
	return end + 2
}

// words are the runs of ASCII letters, digits and whatever is not ASCII, with A
// to Z in lower case.
func words(text string) []string {
	return strings.FieldsFunc(lower(text), func(r rune) bool {
		return r < 0x80 && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
