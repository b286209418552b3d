package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// origin is where a record belongs: a trace, and the span that it is a child of if
// it names one.
//
// Graflow's trace_id is a session's id: 32 hexadecimal digits, and its
// parent_span_id a span's where it traces by itself (Langfuse), and otherwise
// nothing or the id of a task. Other producers write a UUID with hyphens, or any
// text: that names a trace all the same, since all records with that text belong
// together. One without gets a trace of its own, and its further attempts the same
// one.
func origin(t *task.Task) (trace.TraceID, trace.SpanContext) {
	digits := strings.ToLower(strings.ReplaceAll(t.Info.TraceID, "-", ""))
	id, err := trace.TraceIDFromHex(digits)
	if err != nil {
		text := []byte(t.Info.TraceID)
		if len(text) == 0 {
			text = t.Record
		}
		sum := sha256.Sum256(text)
		return trace.TraceID(sum[:len(id)]), trace.SpanContext{}
	}
	parent, err := trace.SpanIDFromHex(strings.ToLower(t.Info.ParentSpanID))
	if err != nil {
		return id, trace.SpanContext{}
	}
	// A record has no field for the sampled flag: the sampler of this sidecar decides.
	return id, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: parent, TraceFlags: trace.FlagsSampled, Remote: true})
}

// traceKey is where in a context the trace of a span without a parent is.
type traceKey struct{}

// ids makes the ids of spans; the traces' come from the records.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(traceKey{}).(trace.TraceID)
	return id, ids{}.NewSpanID(ctx, id)
}

func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// share takes a share of the traces, by their ids, and so the same ones in every
// process. The SDK's own sampler looks at eight bytes of the id, of which two bits
// are the same in every UUID: of Graflow's ids it would take none up to a half and
// all from three quarters on.
type share float64

func (s share) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	h := fnv.New64a()
	_, _ = h.Write(p.TraceID[:]) // never fails
	const all = 1 << 53
	r := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	if float64(mix(h.Sum64())>>11) < float64(s)*all {
		r.Decision = sdktrace.RecordAndSample
	}
	return r
}

func (share) Description() string { return "share of the traces by a hash of their ids" }

// mix is the finalizer of MurmurHash3: without it the upper bits of an FNV hash
// hardly depend on the last bytes.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
