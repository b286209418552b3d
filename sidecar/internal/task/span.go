package task

// Span follows one delivery through the pipeline for traces. Its methods may be
// called from any goroutine, End once.
type Span interface {
	// Traceparent returns the W3C trace context that the worker gets as its parent.
	Traceparent() string
	// End ends the span with the outcome of the delivery and the verdict of Redis.
	End(o *Outcome, verdict string)
}

// Traceparent returns the W3C trace context for the worker that runs the task: that of the
// task's span, or without tracing that of the record.
func (t *Task) Traceparent() string {
	if t.Span != nil {
		return t.Span.Traceparent()
	}
	return t.Info.Traceparent()
}

// EndSpan ends the span of the outcome's task, if it has one.
func (o *Outcome) EndSpan(verdict string) {
	if o.Task.Span != nil {
		o.Task.Span.End(o, verdict)
	}
}
