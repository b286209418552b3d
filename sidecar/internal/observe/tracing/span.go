package tracing

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Our own attributes, beside those of the messaging conventions.
const (
	attrGroup    = attribute.Key("graflow.group.id")
	attrDelivery = attribute.Key("graflow.delivery")
	attrAttempt  = attribute.Key("graflow.attempt")
	attrOutcome  = attribute.Key("graflow.outcome")
	attrVerdict  = attribute.Key("graflow.verdict")
	attrCreated  = attribute.Key("graflow.queue.created_at")
	attrWait     = attribute.Key("graflow.queue.wait_seconds")

	eventWaited  = "graflow.queue.wait"
	eventStarted = "graflow.task.started"
)

// span is one delivery's.
type span struct{ trace.Span }

// Start begins the span of a delivery that was claimed: a consumer's, in the trace
// that the record names, and a child of its parent_span_id where that is one.
func (t *Tracer) Start(tk *task.Task) task.Span {
	ctx := context.Background()
	id, parent := origin(tk)
	if parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	} else {
		ctx = context.WithValue(ctx, traceKey{}, id)
	}
	began := tk.ClaimedAt
	if began.IsZero() {
		began = time.Now() // taken over from a run that is gone
	}
	attrs := make([]attribute.KeyValue, 0, 12)
	attrs = append(attrs,
		semconv.MessagingSystemKey.String("redis"),
		semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(t.queue), semconv.MessagingClientID(t.worker),
		semconv.MessagingMessageBodySize(len(tk.Record)),
		attrDelivery.String(tk.Delivery), attrAttempt.Int(tk.Attempt),
	)
	for _, a := range [...]attribute.KeyValue{
		semconv.MessagingMessageID(tk.Info.TaskID),
		semconv.MessagingMessageConversationID(tk.Info.SessionID),
		attrGroup.String(tk.Info.GroupID),
	} {
		if a.Value.AsString() != "" {
			attrs = append(attrs, a)
		}
	}
	_, s := t.tracer.Start(ctx, "process "+t.queue, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began), trace.WithAttributes(attrs...))
	if wait, ok := tk.Info.Age(began); ok {
		created, _ := tk.Info.Created()
		s.AddEvent(eventWaited, trace.WithTimestamp(began), trace.WithAttributes(
			attrCreated.String(created.UTC().Format(time.RFC3339Nano)), attrWait.Float64(wait.Seconds())))
	}
	return span{s}
}

// Traceparent is what the worker makes its own spans children of. Its last part
// says whether this one is taken.
func (s span) Traceparent() string {
	c := s.SpanContext()
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// longestDescription bounds what a task's error adds to its span.
const longestDescription = 1024

// text is what protobuf takes as text. One span with anything else would cost all
// those of its batch.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// End ends the span at the time of the outcome.
func (s span) End(o *task.Outcome, verdict string) {
	if !o.StartedAt.IsZero() {
		s.AddEvent(eventStarted, trace.WithTimestamp(o.StartedAt))
	}
	s.SetAttributes(attrOutcome.String(o.Conclusion.String()), attrVerdict.String(verdict))
	switch o.Conclusion {
	case task.Failed, task.Dead, task.Lost, task.Retry:
		kind := o.Reason
		if kind == "" {
			kind = o.Conclusion.String()
		}
		s.SetAttributes(semconv.ErrorTypeKey.String(text(kind)))
		s.SetStatus(codes.Error, text(o.Message[:min(len(o.Message), longestDescription)]))
	}
	s.Span.End(trace.WithTimestamp(o.EndedAt))
}
