package rpc

import (
	"strconv"
	"strings"
)

func idText(id []byte) string {
	if id == nil {
		return "missing"
	}
	return string(id)
}

// responseID reads the id of a response. It accepts other spellings of the same number
// (P58): languages with one type for numbers write 2.0, and some libraries write every
// id as a string.
func responseID(token []byte) (int64, bool) {
	text := string(token)
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		return id, true
	}
	if n := len(text); n > 2 && text[0] == '"' && text[n-1] == '"' {
		text = text[1 : n-1]
		if strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' }) < 0 {
			id, err := strconv.ParseInt(text, 10, 64)
			return id, err == nil
		}
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1<<53 || f != float64(int64(f)) {
		return 0, false
	}
	return int64(f), true
}
