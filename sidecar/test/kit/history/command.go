package history

import (
	"encoding/json"
	"strings"
)

// Reader recognises the commands in Redis that end a record or return it. Prefix is the key
// prefix, and the session of all records.
type Reader struct{ Prefix string }

// Events returns what one command did: the words of the command are in words, the first in
// upper case. script tells that a script sent it.
func (r Reader) Events(at int64, words []string, script bool) []Event {
	e := Event{At: at}
	channel := "graflow:channel:" + r.Prefix + ":" // the session is the prefix
	switch name, key := words[0], words[1]; {
	case name == "HSET" && strings.HasPrefix(key, r.Prefix+":completions:"):
		// One completion for each task of the batch.
		var all []Event
		e.What, e.Group = Completed, strings.TrimPrefix(key, r.Prefix+":completions:")
		for i := 2; i+1 < len(words); i += 2 {
			e.Task, e.Text = words[i], words[i+1]
			all = append(all, e)
		}
		return all
	case strings.HasPrefix(name, "INCR") && strings.HasPrefix(key, r.Prefix+":barrier:"):
		e.What, e.Group, e.Text = Counted, strings.TrimPrefix(key, r.Prefix+":barrier:"), "1"
		if len(words) > 2 {
			e.Text = words[2] // INCRBY
		}
	case name == "DECR" && strings.HasPrefix(key, r.Prefix+":barrier:"):
		// The record of a dead letter that was counted is requeued.
		e.What, e.Group, e.Text = Counted, strings.TrimPrefix(key, r.Prefix+":barrier:"), "-1"
	case name == "PUBLISH" && strings.HasPrefix(key, r.Prefix+":barrier_done:"):
		e.What, e.Group = Published, strings.TrimPrefix(key, r.Prefix+":barrier_done:")
	case name == "SET" && strings.HasPrefix(key, channel) && strings.HasSuffix(key, ".__result__"):
		e.What, e.Task = Value, strings.TrimSuffix(strings.TrimPrefix(key, channel), ".__result__")
	case name == "LPUSH" && key == r.Prefix+":queue" && len(words) > 2 && script:
		e.What, e.Task = Returned, TaskOf(words[2])
	case name == "HSET" && strings.HasPrefix(key, r.Prefix+":sidecar:dead:"):
		e.What, e.Delivery = Buried, strings.TrimPrefix(key, r.Prefix+":sidecar:dead:")
	default:
		return nil
	}
	return []Event{e}
}

// TaskOf returns the task id of a record, or "?" if it has none that can be read.
func TaskOf(record string) string {
	var r struct {
		TaskID string `json:"task_id"`
	}
	if json.Unmarshal([]byte(record), &r) != nil {
		return "?"
	}
	return r.TaskID
}
