package history

import (
	"encoding/json"
	"strings"
)

// Reader recognises the commands in Redis that end a record or move it.
type Reader struct {
	Prefix string // the key prefix, and the session of all records
	Right  bool   // the sidecars claim from the right end of the queue
}

// Events returns what one command did: the words of the command are in words, the first in
// upper case. script tells that a script sent it.
func (r Reader) Events(at int64, words []string, script bool) []Event {
	e := Event{At: at}
	channel := "graflow:channel:" + r.Prefix + ":" // the session is the prefix
	switch name, key := words[0], words[1]; {
	case name == "HSET" && strings.HasPrefix(key, r.Prefix+":completions:"):
		// One completion for each task of the batch.
		e.What, e.Group = Completed, strings.TrimPrefix(key, r.Prefix+":completions:")
		return pairs(words, func(task, text string) Event {
			e.Task, e.Text = task, text
			return e
		})
	case name == "HDEL" && strings.HasPrefix(key, r.Prefix+":completions:") && len(words) > 2:
		e.What, e.Group, e.Task = Revoked, strings.TrimPrefix(key, r.Prefix+":completions:"), words[2]
	case name == "HSET" && strings.HasPrefix(key, r.Prefix+":sidecar:inflight:"):
		e.What = Claimed
		return pairs(words, func(delivery, record string) Event {
			e.Delivery, e.Task = delivery, TaskOf(record)
			return e
		})
	case name == "HDEL" && strings.HasPrefix(key, r.Prefix+":sidecar:inflight:"):
		var all []Event
		e.What = Removed
		for _, e.Delivery = range words[2:] {
			all = append(all, e)
		}
		return all
	case name == "HSET" && key == r.Prefix+":sidecar:delayed:records" && len(words) > 3 && script:
		e.What, e.Delivery, e.Task = Delayed, words[2], TaskOf(words[3])
	case name == "SREM" && key == r.Prefix+":sidecar:runs" && len(words) > 2:
		e.What, e.Text = Retired, words[2]
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
	case (name == "LPUSH" || name == "RPUSH") && key == r.Prefix+":queue" && len(words) > 2 && script:
		// A record returns to the end that records are claimed from.
		e.What, e.Task = Added, TaskOf(words[2])
		if (name == "RPUSH") == r.Right {
			e.What = Returned
		}
	case name == "HSET" && strings.HasPrefix(key, r.Prefix+":sidecar:dead:"):
		e.What, e.Delivery = Buried, strings.TrimPrefix(key, r.Prefix+":sidecar:dead:")
	case name == "DEL" && strings.HasPrefix(key, r.Prefix+":sidecar:dead:"):
		e.What, e.Delivery = Unburied, strings.TrimPrefix(key, r.Prefix+":sidecar:dead:")
	default:
		return nil
	}
	return []Event{e}
}

// Whole reports whether Events needs all words of a command, and not only the first four.
func (r Reader) Whole(name, key string) bool {
	return (name == "HSET" || name == "HDEL") &&
		(strings.HasPrefix(key, r.Prefix+":completions:") || strings.HasPrefix(key, r.Prefix+":sidecar:inflight:"))
}

// pairs returns an event for each field and value of an HSET.
func pairs(words []string, event func(field, value string) Event) (all []Event) {
	for i := 2; i+1 < len(words); i += 2 {
		all = append(all, event(words[i], words[i+1]))
	}
	return all
}

// TaskOf returns the task id of a record, or "?" if it has none that can be read.
func TaskOf(record string) string {
	// Producers of tests write the id first, and records may be large.
	if rest, ok := strings.CutPrefix(record, `{"task_id":"`); ok {
		if id, _, ok := strings.Cut(rest, `"`); ok && !strings.Contains(id, `\`) {
			return id
		}
	}
	var r struct {
		TaskID string `json:"task_id"`
	}
	if json.Unmarshal([]byte(record), &r) != nil {
		return "?"
	}
	return r.TaskID
}
