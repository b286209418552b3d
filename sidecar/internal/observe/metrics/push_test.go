package metrics

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// Pushed metrics have the names of scraped ones; the end sends what is there by then.
func TestPushedMetricsHaveTheNamesOfScrapedOnes(t *testing.T) {
	var mu sync.Mutex
	got := map[string]*metricspb.Metric{}
	service := ""
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var data metricspb.MetricsData
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/metrics" || r.Header.Get("X-Key") != "a key" {
			http.Error(w, "not what was expected", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rm := range data.ResourceMetrics {
			for _, kv := range rm.Resource.Attributes {
				if kv.Key == "service.name" {
					service = kv.Value.GetStringValue()
				}
			}
			for _, sm := range rm.ScopeMetrics {
				for _, m := range sm.Metrics {
					got[m.Name] = m
				}
			}
		}
	}))
	defer collector.Close()
	var log testlog.Buffer
	push, err := NewPusher(otlp.Options{
		Collector: config.Collector{Endpoint: collector.URL + "/v1/metrics", Headers: map[string]string{"x-key": "a key"}, Timeout: time.Minute},
		Resource:  otlp.NewResource("1.2.3", "w"), Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	tasks := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "tasks_total"}, []string{"outcome"})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "task_duration_seconds", Buckets: []float64{1, 2}})
	registry.MustRegister(tasks, duration)
	shutdown := push(registry)
	tasks.WithLabelValues(Success).Add(3)
	duration.Observe(1.5)
	shutdown(t.Context())
	mu.Lock()
	defer mu.Unlock()
	if log.String() != "" || service != "graflow-sidecar" {
		t.Errorf("service %q, the log %q", service, &log)
	}
	sum := got["graflow_sidecar_tasks_total"].GetSum()
	if len(sum.GetDataPoints()) != 1 || !sum.GetIsMonotonic() || sum.DataPoints[0].GetAsDouble() != 3 ||
		sum.DataPoints[0].Attributes[0].Key != "outcome" {
		t.Errorf("tasks: %v of %v", sum, got)
	}
	h := got["graflow_sidecar_task_duration_seconds"].GetHistogram()
	if len(h.GetDataPoints()) != 1 || h.DataPoints[0].GetCount() != 1 || h.DataPoints[0].GetSum() != 1.5 {
		t.Errorf("duration: %v", h)
	}
}

// A collector that hangs costs a stop what it gives, and one line.
func TestPushedMetricsOfACollectorThatHangs(t *testing.T) {
	asked, release := make(chan struct{}, 10), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer collector.Close()
	defer close(release)
	var log testlog.Buffer
	push, err := NewPusher(otlp.Options{Collector: config.Collector{Endpoint: collector.URL, Timeout: time.Hour}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}))
	shutdown := push(registry)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	shutdown(ctx)
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "metrics cannot be delivered and are dropped") {
		t.Errorf("the log: %q", text)
	}
}
