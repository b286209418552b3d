package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTraces(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	defaults := func(url string) Traces {
		return Traces{Share: 1, Collector: Collector{Endpoint: url, Headers: map[string]string{}, Timeout: 10 * time.Second}}
	}
	with := func(change func(*Traces)) *Traces {
		o := defaults("http://c:4318/v1/traces")
		change(&o)
		return &o
	}
	plain := with(func(*Traces) {})
	for _, c := range []struct {
		name     string
		env      string // beside an endpoint, if want is not nil
		want     *Traces
		problems string // their variables
	}{
		{"nothing", "", nil, ""},
		{"no endpoint", "OTEL_SERVICE_NAME=x OTEL_TRACES_SAMPLER=wrong", nil, ""},
		{"the endpoint", endpoint + "=http://c:4318", plain, ""},
		{"with a slash", endpoint + "=http://c:4318/", plain, ""},
		{"with a path", endpoint + "=https://c/otlp", with(func(o *Traces) { o.Endpoint = "https://c/otlp/v1/traces" }), ""},
		{"of traces alone, taken as it is", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://d/x", with(func(o *Traces) { o.Endpoint = "http://d/x" }), ""},
		{"of gRPC", endpoint + "=c:4317", nil, endpoint},
		{"no URL", endpoint + "=http://", nil, endpoint},
		{"switched off", endpoint + "=http://c OTEL_SDK_DISABLED=True", nil, ""},
		{"no exporter", endpoint + "=http://c OTEL_TRACES_EXPORTER=none", nil, ""},
		{"protocol", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", plain, ""},
		{"another protocol", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_PROTOCOL=http/json", plain, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{"gRPC", endpoint + "=http://c:4317 OTEL_EXPORTER_OTLP_PROTOCOL=grpc", with(func(o *Traces) { o.Endpoint, o.GRPC = "http://c:4317", true }), ""},
		{"gRPC for metrics alone", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc", plain, ""},
		{"timeout", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_TIMEOUT=1500", with(func(o *Traces) { o.Timeout = 1500 * time.Millisecond }), ""},
		{"no timeout", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_TIMEOUT=1s", plain, "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{"compression", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=gzip", with(func(o *Traces) { o.Gzip = true }), ""},
		{"another compression", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_COMPRESSION=zstd", plain, "OTEL_EXPORTER_OTLP_COMPRESSION"},
		{
			"headers", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20x=,a-b=,",
			with(func(o *Traces) { o.Headers = map[string]string{"authorization": "Bearer x=", "a-b": ""} }), "",
		},
		{
			"headers that are none", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_HEADERS=a=1,b,c=%0d%0ad,(=2,e=%zz",
			with(func(o *Traces) { o.Headers = map[string]string{"a": "1"} }), "OTEL_EXPORTER_OTLP_HEADERS",
		},
		{
			"files", endpoint + "=http://c:4318 OTEL_EXPORTER_OTLP_CERTIFICATE=ca OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=cert OTEL_EXPORTER_OTLP_CLIENT_KEY=key",
			with(func(o *Traces) { o.CAFile, o.CertFile, o.KeyFile = "ca", "cert", "key" }), "",
		},
		{"a share", endpoint + "=http://c:4318 OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.25", with(func(o *Traces) { o.Share = 0.25 }), ""},
		{"no share", endpoint + "=http://c:4318 OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=2", plain, "OTEL_TRACES_SAMPLER_ARG"},
		{"none", endpoint + "=http://c:4318 OTEL_TRACES_SAMPLER=always_off", with(func(o *Traces) { o.Share = 0 }), ""},
		{"another sampler", endpoint + "=http://c:4318 OTEL_TRACES_SAMPLER=jaeger_remote", plain, "OTEL_TRACES_SAMPLER"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := map[string]string{}
			for pair := range strings.FieldsSeq(c.env) {
				name, text, _ := strings.Cut(pair, "=")
				env[name] = text
			}
			r := telemetry{getenv: func(name string) string { return env[name] }}
			got := r.traces()
			var names []string
			for _, p := range r.problems {
				names = append(names, p.Variable)
				if strings.Contains(p.Reason, "Bearer") {
					t.Errorf("a secret in %q", p.Reason)
				}
			}
			if strings.Join(names, " ") != c.problems {
				t.Errorf("problems with %v, want %q", names, c.problems)
			}
			if (got == nil) != (c.want == nil) {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if got == nil {
				return
			}
			if !maps.Equal(got.Headers, c.want.Headers) {
				t.Errorf("headers %v, want %v", slices.Sorted(maps.Keys(got.Headers)), c.want.Headers)
			}
			a, b := *got, *c.want
			a.Headers, b.Headers = nil, nil
			if a.Endpoint != b.Endpoint || a.Timeout != b.Timeout || a.Gzip != b.Gzip || a.GRPC != b.GRPC || a.Share != b.Share || a.CAFile != b.CAFile || a.CertFile != b.CertFile || a.KeyFile != b.KeyFile {
				t.Errorf("got %+v, want %+v", a, b)
			}
		})
	}
}

func TestPushedMetrics(t *testing.T) {
	for _, c := range []struct {
		name, env string
		want      string // the endpoint; "" for none
		grpc      bool
		problems  string // their variables
	}{
		{"nothing", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "", false, ""},
		{"Prometheus alone", "OTEL_METRICS_EXPORTER=prometheus OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "", false, ""},
		{"asked for", "OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "http://c:4318/v1/metrics", false, ""},
		{"one of two", "OTEL_METRICS_EXPORTER=prometheus,otlp OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "http://c:4318/v1/metrics", false, ""},
		{"where the standard says", "OTEL_METRICS_EXPORTER=otlp", "http://localhost:4318/v1/metrics", false, ""},
		{"… over gRPC", "OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "http://localhost:4317", true, ""},
		{"an endpoint of its own", "OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://d/m OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c", "https://d/m", false, ""},
		{"no URL", "OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_ENDPOINT=c:4318", "", false, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"another exporter", "OTEL_METRICS_EXPORTER=console", "", false, "OTEL_METRICS_EXPORTER"},
		{"switched off", "OTEL_METRICS_EXPORTER=otlp OTEL_SDK_DISABLED=true", "", false, ""},
	} {
		env := map[string]string{}
		for pair := range strings.FieldsSeq(c.env) {
			name, text, _ := strings.Cut(pair, "=")
			env[name] = text
		}
		r := telemetry{getenv: func(name string) string { return env[name] }}
		got := r.metrics()
		var names []string
		for _, p := range r.problems {
			names = append(names, p.Variable)
		}
		if strings.Join(names, " ") != c.problems {
			t.Errorf("%s: problems with %v, want %q", c.name, names, c.problems)
		}
		switch {
		case (got == nil) != (c.want == ""):
			t.Errorf("%s: got %+v, want %q", c.name, got, c.want)
		case got != nil && (got.Endpoint != c.want || got.GRPC != c.grpc):
			t.Errorf("%s: %s, gRPC %t", c.name, got.Endpoint, got.GRPC)
		}
	}
}

// What both signals read is reported once.
func TestAProblemIsReportedOnce(t *testing.T) {
	env := map[string]string{"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}
	r := telemetry{getenv: func(name string) string { return env[name] }}
	if r.traces() == nil || r.metrics() == nil || len(r.problems) != 1 {
		t.Errorf("%v", r.problems)
	}
}
