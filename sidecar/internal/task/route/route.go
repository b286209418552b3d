// Package route matches task ids with the patterns of the kinds of worker.
package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pattern is a pattern of task ids. A * matches any number of characters, a ? matches one
// character, and a backslash makes the next character literal. A character is a Unicode
// code point: é may be two. A pattern matches whole ids only.
//
// The Lua scripts of package redis have the same rules (routing.lua).
type Pattern struct {
	text  string
	runes []rune
}

// The wildcards are represented by runes that no text contains.
const (
	anything  = -1
	character = -2
)

// maxPattern is the maximum length of a pattern in bytes: every claim sends it.
const maxPattern = 256

// Parse parses a pattern.
func Parse(text string) (Pattern, error) {
	switch {
	case text == "":
		return Pattern{}, errors.New("a pattern is empty; * takes every task")
	case len(text) > maxPattern:
		return Pattern{}, fmt.Errorf("pattern %.20q… has %d bytes, and may have %d", text, len(text), maxPattern)
	case !utf8.ValidString(text):
		return Pattern{}, fmt.Errorf("pattern %q is not UTF-8", text)
	case strings.ContainsFunc(text, unicode.IsControl):
		return Pattern{}, fmt.Errorf("pattern %q has a control character", text)
	}
	p := Pattern{text: text}
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
			continue
		case r == '*':
			r = anything
		case r == '?':
			r = character
		}
		p.runes = append(p.runes, r)
	}
	if escaped {
		return Pattern{}, fmt.Errorf("pattern %q ends in a backslash that stands before nothing; a backslash itself is \\\\", text)
	}
	return p, nil
}

// String returns the text that Parse read.
func (p Pattern) String() string { return p.text }

// All reports whether the pattern matches every id.
func (p Pattern) All() bool {
	return len(p.runes) > 0 && !slices.ContainsFunc(p.runes, func(r rune) bool { return r != anything })
}

// Match reports whether the pattern matches the id.
func (p Pattern) Match(id string) bool {
	text := []rune(id)
	at, retry, from := 0, -1, 0
	for i := 0; i < len(text); {
		switch {
		case at < len(p.runes) && p.runes[at] == anything:
			at++
			retry, from = at, i
		case at < len(p.runes) && (p.runes[at] == character || p.runes[at] == text[i]):
			at++
			i++
		case retry >= 0: // the last * takes one character more
			from++
			at, i = retry, from
		default:
			return false
		}
	}
	for at < len(p.runes) && p.runes[at] == anything {
		at++
	}
	return at == len(p.runes)
}

// ParseAll parses the patterns of several kinds of worker. The first matching pattern
// counts; a pattern that can never count is an error.
func ParseAll(texts []string) ([]Pattern, error) {
	var list []Pattern
	var errs []error
	for i, text := range texts {
		p, err := Parse(text)
		switch before := slices.IndexFunc(list, Pattern.All); {
		case err != nil:
			errs = append(errs, err)
		case slices.Contains(texts[:i], text):
			errs = append(errs, fmt.Errorf("pattern %q is there twice: the first one takes all of its tasks", text))
		case before >= 0:
			errs = append(errs, fmt.Errorf("pattern %q stands behind %q, which takes every task: put it first", text, list[before]))
		}
		list = append(list, p)
	}
	return list, errors.Join(errs...)
}

// Find returns the index of the first pattern that matches the id, or -1.
func Find(list []Pattern, id string) int {
	return slices.IndexFunc(list, func(p Pattern) bool { return p.Match(id) })
}
