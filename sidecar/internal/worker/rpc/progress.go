package rpc

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// maxProgress is how many bytes of a progress message are kept.
const maxProgress = 256

// progress notes how far a task is (P42). What cannot be read, or is about a
// task that has ended, is dropped: it is for people only.
func (c *child) progress(params []byte) {
	var p struct {
		Delivery string   `json:"delivery"`
		Fraction *float64 `json:"fraction"`
		Message  *string  `json:"message"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.runOfLocked(p.Delivery)
	if r == nil {
		return
	}
	r.said.At = time.Now()
	if p.Fraction != nil {
		r.said.Fraction = min(max(*p.Fraction, 0), 1)
	}
	if p.Message != nil {
		r.said.Message = *p.Message
		if len(r.said.Message) > maxProgress {
			r.said.Message = cutRunes(r.said.Message, maxProgress) + "…"
		}
	}
}

// cutRunes is the beginning of a text, most bytes at the longest, and no half of
// a character.
func cutRunes(text string, most int) string {
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most])
}
