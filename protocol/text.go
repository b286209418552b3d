package protocol

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

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD: a broken error text must not break the message around it.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, `\ufffd`...)
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendFlat writes JSON text, each CR and LF as a space (P3): in valid JSON
// they stand between tokens only, where a space means the same.
func appendFlat(dst, raw []byte) []byte {
	at := len(dst)
	dst = append(dst, raw...)
	for _, c := range [...]byte{'\n', '\r'} {
		for rest := dst[at:]; ; {
			i := bytes.IndexByte(rest, c)
			if i < 0 {
				break
			}
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
	return dst
}
