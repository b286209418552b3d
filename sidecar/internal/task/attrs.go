package task

// LogAttrs returns the slog attributes that identify the task in every log line about it.
// The lines of the sidecar and those of its worker use the same keys. Attributes that the
// record does not have are omitted.
func (t *Task) LogAttrs() []any {
	attrs := make([]any, 0, 24) // callers append more
	attrs = append(attrs, "task_id", t.Info.TaskID, "delivery", t.Delivery)
	for _, a := range [...]struct{ key, value string }{
		{"session_id", t.Info.SessionID}, {"group_id", t.Info.GroupID}, {"trace_id", t.Info.TraceID},
	} {
		if a.value != "" {
			attrs = append(attrs, a.key, a.value)
		}
	}
	return append(attrs, "attempt", t.Attempt)
}
