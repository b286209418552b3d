package tracing

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// replies answers requests in turn: a status, or -1 for a connection that fails.
// It notes when they came.
type replies struct {
	list []int
	wait string
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
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Retry-After": {r.wait}},
		Body: io.NopCloser(strings.NewReader("no room")),
	}, nil
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
		{"refused for good", []int{401}, "", 1, 0, "Unauthorized: no room"},
		{"elsewhere", []int{302}, "", 1, 0, "Found: no room"},
		{"the second time", []int{-1, 200}, "", 2, 250 * time.Millisecond, ""},
		{"the third time", []int{503, 429, 200}, "", 3, 750 * time.Millisecond, ""},
		{"as late as it asks", []int{503, 200}, "7", 2, 7 * time.Second, ""},
		{"until the time is over", []int{-1}, "", 0, 5 * time.Second, "connection refused"},
		{"later than the time", []int{503, 200}, "60", 1, 0, "Service Unavailable: no room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log testlog.Buffer
				c, err := newClient(Options{Endpoint: "http://collector/", Timeout: 10 * time.Second, Log: slog.New(slog.NewTextHandler(&log, nil))})
				if err != nil {
					t.Fatal(err)
				}
				r := &replies{list: tt.list, wait: tt.wait, from: time.Now()}
				c.http.Transport = r
				if err := c.UploadTraces(t.Context(), nil); err != nil {
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
				c.close()
			})
		})
	}
}

// One line when it begins, one when it is over.
func TestALossIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Buffer
		c, err := newClient(Options{Endpoint: "http://me:secret@collector/", Timeout: time.Second, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range []int{400, 400, 400, 200, 200, 400} {
			c.http.Transport = &replies{list: []int{status}}
			_ = c.UploadTraces(t.Context(), nil)
		}
		c.close()
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
		c, err := newClient(Options{Endpoint: "http://collector/", Timeout: time.Hour, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := &replies{list: []int{503}, wait: "600", from: time.Now()}
		c.http.Transport = r
		done := make(chan struct{})
		go func() {
			_ = c.UploadTraces(t.Context(), nil)
			close(done)
		}()
		synctest.Wait()
		c.last()
		<-done
		if took := time.Since(r.from); took != 0 || len(r.at) != 1 {
			t.Errorf("%d tries in %v", len(r.at), took)
		}
		c.close()
	})
}

func TestSpansThatAreNotTaken(t *testing.T) {
	partial := func(spans uint64, why string) []byte {
		b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), spans)
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), why)
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
	}
	for _, c := range []struct {
		name  string
		reply []byte
		want  string
	}{
		{"nothing", nil, ""},
		{"all taken", partial(0, ""), ""},
		{"a hint", partial(0, "use gzip"), ""},
		{"some not", partial(3, "too old"), "the collector did not take 3 of the spans: too old"},
		{"JSON", []byte(`{"partialSuccess":{}}`), ""},
		{"cut off", partial(3, "too old")[:3], ""},
		{"a newer field", append([]byte{0x5d, 1, 2, 3, 4}, partial(1, "")...), "the collector did not take 1 of the spans"},
	} {
		got := ""
		if err := refused(c.reply); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
