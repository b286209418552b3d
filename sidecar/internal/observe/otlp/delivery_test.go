package otlp

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replies answers requests in turn: a status, or -1 for a connection that fails.
// It notes when they came.
type replies struct {
	list []int
	wait string
	body []byte
	at   []time.Duration
	from time.Time
}

func (r *replies) RoundTrip(*http.Request) (*http.Response, error) {
	n := min(len(r.at), len(r.list)-1)
	r.at = append(r.at, time.Since(r.from))
	status := r.list[n]
	if status < 0 {
		return nil, errors.New("connection refused")
	}
	body := r.body
	if status >= http.StatusMultipleChoices {
		body = []byte("no room")
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{"Retry-After": {r.wait}, "Content-Type": {"application/x-protobuf"}},
	}, nil
}

var someSpans = tracetest.SpanStubs{{Name: "a span"}}.Snapshots()

// exporterTo is one whose requests are answered by replies.
func exporterTo(t *testing.T, r *replies, o Options) (sdktrace.SpanExporter, *Delivery) {
	t.Helper()
	c, err := o.connect()
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport.(*transport).next = r
	e, d, err := c.spanExporter()
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func TestTries(t *testing.T) {
	for _, tt := range []struct {
		name  string
		list  []int
		wait  string
		tries int
		least time.Duration // before the last of them
		logs  string
	}{
		{"taken", []int{200}, "", 1, 0, ""},
		{"accepted", []int{202}, "", 1, 0, ""},
		{"refused for good", []int{401}, "", 1, 0, "Unauthorized (body: no room)"},
		{"elsewhere", []int{302}, "", 1, 0, "Found (body: no room)"},
		{"the second time", []int{-1, 200}, "", 2, 250 * time.Millisecond, ""},
		{"the third time", []int{503, 429, 200}, "", 3, 600 * time.Millisecond, ""},
		{"as late as it asks", []int{503, 200}, "7", 2, 7 * time.Second, ""},
		{"until the time is over", []int{-1}, "", 0, 3 * time.Second, "connection refused"},
		{"later than the time", []int{503, 200}, "60", 1, 0, "body: no room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log testlog.Buffer
				r := &replies{list: tt.list, wait: tt.wait, from: time.Now()}
				e, d := exporterTo(t, r, Options{Collector: config.Collector{Endpoint: "http://collector/", Timeout: 10 * time.Second}, Log: slog.New(slog.NewTextHandler(&log, nil))})
				if err := e.ExportSpans(t.Context(), someSpans); err != nil {
					t.Errorf("the SDK is told: %v", err)
				}
				if tt.tries > 0 && len(r.at) != tt.tries {
					t.Errorf("%d tries, want %d", len(r.at), tt.tries)
				}
				if last := r.at[len(r.at)-1]; last < tt.least || time.Since(r.from) > 10*time.Second {
					t.Errorf("tries at %v", r.at)
				}
				if got := log.String(); (got == "") != (tt.logs == "") || !strings.Contains(got, tt.logs) {
					t.Errorf("the log: %q, want %q", got, tt.logs)
				}
				d.Stop(t.Context(), e.Shutdown)
			})
		})
	}
}

// One line when it begins, one when it is over.
func TestALossIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Buffer
		r := &replies{list: []int{400, 400, 400, 200, 200, 400}}
		e, d := exporterTo(t, r, Options{Collector: config.Collector{Endpoint: "http://me:secret@collector/", Timeout: time.Second}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for range r.list {
			_ = e.ExportSpans(t.Context(), someSpans)
		}
		d.Stop(t.Context(), e.Shutdown)
		var levels []string
		for line := range strings.Lines(log.String()) {
			levels = append(levels, strings.Fields(line)[1])
		}
		if got := strings.Join(levels, " "); got != "level=WARN level=INFO level=WARN" {
			t.Errorf("%s\n%s", got, &log)
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("a password is in the log:\n%s", &log)
		}
	})
}

// The end comes in the middle of a pause: it is not waited for.
func TestNoSecondTryInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &replies{list: []int{503}, wait: "600", from: time.Now()}
		e, d := exporterTo(t, r, Options{Collector: config.Collector{Endpoint: "http://collector/", Timeout: time.Hour}, Log: slog.New(slog.DiscardHandler)})
		done := make(chan struct{})
		go func() {
			_ = e.ExportSpans(t.Context(), someSpans)
			close(done)
		}()
		synctest.Wait()
		d.Stop(t.Context(), e.Shutdown)
		<-done
		if took := time.Since(r.from); took != 0 || len(r.at) != 1 {
			t.Errorf("%d tries in %v", len(r.at), took)
		}
	})
}

func TestSpansThatAreNotTaken(t *testing.T) {
	partial := func(spans int64, why string) []byte {
		b, err := proto.Marshal(&coltracepb.ExportTraceServiceResponse{
			PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: spans, ErrorMessage: why},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name  string
		reply []byte
		want  string // in the log
	}{
		{"nothing", nil, ""},
		{"all taken", partial(0, ""), ""},
		{"a hint", partial(0, "use gzip"), ""},
		{"some not", partial(3, "too old"), "OTLP partial success: too old (3 spans rejected)"},
		{"a newer field", append([]byte{0x5d, 1, 2, 3, 4}, partial(1, "")...), "(1 spans rejected)"},
	} {
		var log testlog.Buffer
		e, d := exporterTo(t, &replies{list: []int{200}, body: c.reply}, Options{Collector: config.Collector{Endpoint: "http://collector/", Timeout: time.Second}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		_ = e.ExportSpans(t.Context(), someSpans)
		d.Stop(t.Context(), e.Shutdown)
		if got := log.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A collector's answer may be a page of HTML, or binary.
func TestAnAnswerIsBounded(t *testing.T) {
	if got := bounded("no\nroom\x00\xff" + strings.Repeat("x", 5000)); !strings.HasPrefix(got, "no room \uFFFD") || len(got) > 310 {
		t.Errorf("%q", got)
	}
}
