package luamutant

import (
	"fmt"
	"strings"
)

// kind is the kind of a token.
type kind int

const (
	end kind = iota // of the text
	name
	keyword
	number
	text
	symbol
)

// token is one token and its place in the text.
type token struct {
	kind     kind
	text     string
	from, to int
}

var keywords = map[string]bool{}

func init() {
	for word := range strings.FieldsSeq(`and break do else elseif end false for function
		if in local nil not or repeat return then true until while`) {
		keywords[word] = true
	}
}

// symbols are those of more than one character, longest first.
var symbols = []string{"...", "..", "==", "~=", "<=", ">="}

// tokens splits a script. Comments are dropped.
func tokens(script string) ([]token, error) {
	var all []token
	for i := 0; i < len(script); {
		c := script[i]
		from := i
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case strings.HasPrefix(script[i:], "--[["), strings.HasPrefix(script[i:], "[["):
			return nil, fmt.Errorf("offset %d: long brackets are not supported", i)
		case strings.HasPrefix(script[i:], "--"):
			for i < len(script) && script[i] != '\n' {
				i++
			}
			continue
		case isLetter(c):
			for i < len(script) && (isLetter(script[i]) || isDigit(script[i])) {
				i++
			}
			k := name
			if keywords[script[from:i]] {
				k = keyword
			}
			all = append(all, token{k, script[from:i], from, i})
		case isDigit(c):
			for i < len(script) && (isLetter(script[i]) || isDigit(script[i]) || script[i] == '.' && !strings.HasPrefix(script[i:], "..")) {
				i++
			}
			all = append(all, token{number, script[from:i], from, i})
		case c == '\'' || c == '"':
			for i++; i < len(script) && script[i] != c; i++ {
				if script[i] == '\\' {
					i++
				}
			}
			if i >= len(script) {
				return nil, fmt.Errorf("offset %d: a string without an end", from)
			}
			i++
			all = append(all, token{text, script[from:i], from, i})
		default:
			i++
			for _, s := range symbols {
				if strings.HasPrefix(script[from:], s) {
					i = from + len(s)
					break
				}
			}
			all = append(all, token{symbol, script[from:i], from, i})
		}
	}
	return append(all, token{end, "", len(script), len(script)}), nil
}

func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
