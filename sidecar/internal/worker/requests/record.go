package requests

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// completeRecord returns a record that a worker adds to the queue, with missing members
// taken from the record of its task (P49). Existing members keep their text, digit for
// digit.
func completeRecord(record []byte, from task.Info, now time.Time) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(record, &members); err != nil {
		return nil, err
	}
	add := func(name string, value any) {
		if had, ok := members[name]; ok && !bytes.Equal(had, []byte("null")) || value == "" {
			return
		}
		members[name], _ = json.Marshal(value) // a string or a number
	}
	add("session_id", from.SessionID)
	add("graph_hash", from.GraphHash)
	add("trace_id", from.TraceID)
	add("created_at", json.Number(strconv.FormatFloat(float64(now.UnixMicro())/1e6, 'f', 6, 64)))
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(members); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	_, err := task.Decode(text)
	return text, err
}
