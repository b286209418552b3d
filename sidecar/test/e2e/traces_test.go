//go:build e2e

package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// The tasks of one of Graflow's workflows are in one trace, whose id is its
// session's: all of the way from the variable to a collector.
func TestAWorkflowIsATrace(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it makes no spans")
	var mu sync.Mutex
	traces := map[string]map[string]int{} // trace id → name and outcome → how many
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var data tracepb.TracesData
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "a key" {
			http.Error(w, "not what was expected", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range data.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					id := hex.EncodeToString(s.TraceId)
					if traces[id] == nil {
						traces[id] = map[string]int{}
					}
					outcome := ""
					for _, kv := range s.Attributes {
						if kv.Key == "graflow.outcome" {
							outcome = kv.Value.GetStringValue()
						}
					}
					traces[id][s.Name+" "+outcome]++
				}
			}
		}
	}))
	t.Cleanup(collector.Close)
	b := newBench(t)
	w := b.graflow("OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=a%20key")
	var got struct{ Session string }
	b.report(&got, "group.py", "5")
	w.stop() // what is not sent yet is sent now
	mu.Lock()
	defer mu.Unlock()
	equal(t, "traces", traces, map[string]map[string]int{got.Session: {fmt.Sprintf("process %s:queue succeeded", b.prefix): 5}})
}
