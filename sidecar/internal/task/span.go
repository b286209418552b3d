package task

// Span follows one delivery through the pipeline for traces. Its methods may be
// called from any goroutine, End once.
type Span interface {
	// Traceparent is the W3C trace context that the worker gets as its parent.
	Traceparent() string
	// End tells what became of the delivery, and what Redis said to that.
	End(o *Outcome, verdict string)
}

// Traceparent is the W3C trace context of whoever runs the task: its span where
// traces are made, else what the record itself says.
func (t *Task) Traceparent() string {
	if t.Span != nil {
		return t.Span.Traceparent()
	}
	return t.Info.Traceparent()
}
