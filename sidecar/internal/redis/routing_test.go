package redis

import "testing"

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
