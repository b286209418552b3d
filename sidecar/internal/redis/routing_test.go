package redis

import (
	"fmt"
	"strings"
	"testing"
)

// The escapes of JSON in a task id are one character each, in UTF-8.
func TestEscapesInTaskIDs(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		for _, escape := range []string{`\b`, `\f`, `\n`, `\r`, `\t`, `\"`, `\\`, `\/`, `\u0041`, `\u00e9`, `\u20ac`, `\ud83d\ude00`} {
			same(t, escape, e.kindOf([]string{"x?y"}, `{"task_id":"x`+escape+`y"}`), 0)
		}
		for escape, char := range map[string]string{
			`\u007f`: "\u007f", `\u0080`: "\u0080", `\u00e9`: "é", `\u07ff`: "\u07ff", `\u0800`: "\u0800", `\u20ac`: "€", `\uffff`: "\uffff",
			`\ud800\udc00`: "\U00010000", `\ud83d\ude00`: "😀", `\udbff\udfff`: "\U0010ffff", `\ud7ff`: "\ud7ff", `\ue000`: "\ue000",
			`\ud83d\ude01`: "😁", `\udbc0\udc00`: "\U00100000", `\udc00\udc00`: "\ufffd\ufffd", `\ude00\udc00`: "\ufffd\ufffd",
			`\ud800`: "\ufffd", `\udfff`: "\ufffd", `\t`: "\t", `\/`: "/",
		} {
			same(t, escape, e.kindOf([]string{"x" + char + "y"}, `{"task_id":"x`+escape+`y"}`), 0)
		}
	})
}

// The member task_id is found behind others, whatever these are, by its name alone.
func TestTheMemberTaskID(t *testing.T) {
	long := strings.Repeat("k", 70)
	both(t, Options{}, func(t *testing.T, e *env) {
		for _, record := range []string{
			`{"task_id":"b"}`,
			` { "task_id" : "b" } `,
			`{"x":"a","task_id":"b"}`,
			`{"` + long + `":"a","task_id":"b"}`,
			`{"\x":"a","task_id":"b"}`, // a malformed escape
			`{"\u0074\u0061\u0073\u006b\u005f\u0069\u0064":"b"}`,
			`{"x":{"task_id":"a"},"task_id":"b","task_id":"a"}`,
		} {
			same(t, record, e.kindOf([]string{"a", "b"}, record), 1)
		}
	})
}

// A part of a pattern is searched behind the one before.
func TestPartsOfAPatternDoNotOverlap(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		for _, c := range []struct {
			pattern, id string
			want        int
		}{
			{"a*a", "a", KindNone},
			{"a*a", "aa", 0},
			{"a**a", "a", KindNone},
			{"a**a", "aa", 0},
			{"ab*ba", "aba", KindNone},
			{"ab*ba", "abba", 0},
			{"*a*a*", "bab", KindNone},
			{"*a*a*", "babab", 0},
			{"?*?", "é", KindNone},
			{"?*?", "éa", 0},
		} {
			same(t, fmt.Sprint(c.pattern, " ", c.id), e.kindOf([]string{c.pattern}, job(c.id)), c.want)
		}
	})
}

// An entry of the unrouted list without a time is a record that has waited for long.
func TestUnroutedWithoutATime(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		if err := e.c.RPush(e.ctx, e.keys.own("unrouted"), job("a"), job("b")).Err(); err != nil {
			t.Fatal(err)
		}
		same(t, "claimed", claimedIDs(e.routed(run, []string{"a"}, 1).Claimed), []string{"a:0", fmt.Sprint("b:", KindNone)})
	})
}
