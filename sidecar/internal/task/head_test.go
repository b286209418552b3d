package task

import (
	"bytes"
	"strings"
	"testing"
)

func TestDecodeHead(t *testing.T) {
	pad := strings.Repeat("x", 1000)
	full := Info{TaskID: "a", SessionID: "s", GraphHash: "h", TraceID: "t", CreatedAt: "1732335600.10", GroupID: "g"}
	for _, c := range []struct {
		name, head string
		want       Info
	}{
		{"Graflow's, whole", graflows, full},
		{"Graflow's, cut in a text behind", graflows[:len(graflows)-1] + `,"pad":"` + pad, full},
		{"cut in a member", `{"task_id":"a","group_id":"g`, Info{TaskID: "a"}},
		{"cut in a nested value", `{"task_id":"a","x":{"group_id":"no","y":[1,2`, Info{TaskID: "a"}},
		{"behind a nested value", `{"x":{"task_id":"no"},"Task_ID":"a","pad":"`, Info{TaskID: "a"}},
		{"null and another kind", `{"task_id":null,"group_id":7,"session_id":"s","pad":"`, Info{SessionID: "s"}},
		{"no object", `["task_id","a"`, Info{}},
		{"no JSON", "\x00\xff", Info{}},
		{"nothing", "", Info{}},
	} {
		if got := DecodeHead([]byte(c.head)); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// FuzzDecodeHead: a head tells what the whole record tells, or less.
func FuzzDecodeHead(f *testing.F) {
	f.Add([]byte(graflows), uint16(50))
	f.Add([]byte(`{"task_id":"a\u00e9","created_at":1e3,"x":[{}]}`), uint16(30))
	f.Fuzz(func(t *testing.T, record []byte, n uint16) {
		whole, err := Decode(record)
		if err != nil || bytes.ContainsFunc(record, func(r rune) bool { return r == '\\' || r >= 0x80 }) {
			return
		}
		for _, name := range []string{"task_id", "group_id", "session_id", "created_at"} {
			if strings.Count(strings.ToLower(string(record)), name) > 1 {
				return // of two members with one name the head may have the first alone
			}
		}
		head := DecodeHead(record[:min(int(n), len(record))])
		for _, f := range [][2]string{
			{head.TaskID, whole.TaskID}, {head.GroupID, whole.GroupID}, {head.SessionID, whole.SessionID}, {head.CreatedAt, whole.CreatedAt},
		} {
			if f[0] != "" && f[0] != f[1] {
				t.Errorf("%q of %q reads as %+v, whole as %+v", head, record, head, whole)
			}
		}
	})
}
