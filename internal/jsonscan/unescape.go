package jsonscan

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// unescape decodes what stands between the quotes of a valid JSON string. Half
// of a surrogate pair becomes U+FFFD, as encoding/json has it.
func unescape(content []byte) []byte {
	out := make([]byte, 0, len(content))
	for i := 0; i < len(content); {
		if content[i] != '\\' {
			n := bytes.IndexByte(content[i:], '\\')
			if n < 0 {
				n = len(content) - i
			}
			out = append(out, content[i:i+n]...)
			i += n
			continue
		}
		c := content[i+1]
		i += 2
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(content[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				second := rune(-1)
				if len(content)-i >= 6 && content[i] == '\\' && content[i+1] == 'u' {
					second = hex4(content[i+2:])
				}
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default: // quote, backslash, slash
			out = append(out, c)
		}
	}
	return out
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		d, _ := hex(c)
		r = r<<4 | d
	}
	return r
}

func hex(c byte) (rune, bool) {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0'), true
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10, true
	default:
		return 0, false
	}
}
