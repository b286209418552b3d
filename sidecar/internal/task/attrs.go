package task

// LogAttrs are what names the task in every line of the log that is about it, in
// slog's form: the sidecar's own lines and those of its worker are found by the
// same keys. What the record does not say is left out.
func (t *Task) LogAttrs() []any {
	attrs := make([]any, 0, 24) // with room for what callers add
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
