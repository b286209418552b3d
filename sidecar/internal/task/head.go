package task

import (
	"bytes"
	"encoding/json"
	"strings"
)

// DecodeHead reads the fields in the first bytes of a record. It stops without an error
// where they end or are not JSON; the fields that follow stay empty. It does not validate
// the record.
func DecodeHead(head []byte) (info Info) {
	d := json.NewDecoder(bytes.NewReader(head))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return info
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return info
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return info
		}
		info.set(name.(string), value) // a member name is always a string
	}
	return info
}

// set assigns the member of a record to its field of Info, if there is one.
func (i *Info) set(name string, value json.RawMessage) {
	for _, f := range []struct {
		name string
		text *string
	}{
		{"task_id", &i.TaskID},
		{"session_id", &i.SessionID},
		{"graph_hash", &i.GraphHash},
		{"group_id", &i.GroupID},
		{"trace_id", &i.TraceID},
		{"parent_span_id", &i.ParentSpanID},
	} {
		if strings.EqualFold(name, f.name) {
			var text *string
			if json.Unmarshal(value, &text) == nil && text != nil {
				*f.text = *text
			}
			return
		}
	}
	if strings.EqualFold(name, "created_at") {
		var n json.Number
		if json.Unmarshal(value, &n) == nil {
			i.CreatedAt = n.String()
		}
	}
}
