package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Collector is an OpenTelemetry collector that takes one signal (spans, or metrics).
// OpenTelemetry's SDK reads the rest from the environment itself: the bounds of the
// queue (OTEL_BSP_…) and of a span (OTEL_SPAN_…), the interval of metrics
// (OTEL_METRIC_EXPORT_…), and what else to say of the sender (OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES).
type Collector struct {
	Endpoint string // a URL; gRPC takes its host and port only
	GRPC     bool   // instead of HTTP
	Headers  map[string]string
	Timeout  time.Duration // of one export, with all its tries
	Gzip     bool
	// Files in PEM, where TLS needs them.
	CAFile, CertFile, KeyFile string
}

// Traces says where spans go, and of which traces.
type Traces struct {
	Collector
	// Share of the traces that is taken, from 0 to 1. All sidecars take the same traces.
	Share float64
}

// TelemetryProblem is a variable of OpenTelemetry's that cannot be used. These are not
// ours, and often those of a whole cluster: none of them ends the sidecar.
type TelemetryProblem struct{ Variable, Reason string }

// signal is one of the things that a collector takes.
type signal struct {
	name     string // in names of variables
	path     string // of the collector, over HTTP
	disabled string // what a variable that cannot be used costs
}

var (
	signalTraces  = signal{"TRACES", "traces", "no traces are made"}
	signalMetrics = signal{"METRICS", "metrics", "no metrics are sent"}
)

// telemetry reads OpenTelemetry's variables.
type telemetry struct {
	getenv   func(string) string
	problems []TelemetryProblem
}

func (r *telemetry) complain(name, format string, args ...any) {
	p := TelemetryProblem{name, fmt.Sprintf(format, args...)}
	if !slices.Contains(r.problems, p) { // both signals may read it
		r.problems = append(r.problems, p)
	}
}

func (r *telemetry) disabled() bool { return strings.EqualFold(r.getenv("OTEL_SDK_DISABLED"), "true") }

// traces are the settings of spans; nil for none. Without an endpoint there are none.
func (r *telemetry) traces() *Traces {
	if r.disabled() || strings.EqualFold(r.getenv("OTEL_TRACES_EXPORTER"), "none") {
		return nil
	}
	exporter := r.exporter(signalTraces, "")
	if exporter == nil {
		return nil
	}
	o := &Traces{Collector: *exporter, Share: 1}
	r.sampler(o)
	return o
}

// metrics are the settings for sending metrics; nil unless OTEL_METRICS_EXPORTER asks
// for it. Prometheus reads them in any case.
func (r *telemetry) metrics() *Collector {
	const name = "OTEL_METRICS_EXPORTER"
	wanted := false
	for _, exporter := range splitList(r.getenv(name)) {
		switch strings.ToLower(exporter) {
		case "otlp":
			wanted = true
		case "none", "prometheus":
		default:
			r.complain(name, "%q is not known here; it may be otlp, prometheus or none", exporter)
		}
	}
	if !wanted || r.disabled() {
		return nil
	}
	return r.exporter(signalMetrics, "http://localhost")
}

// exporter reads what the SDK's exporters read by themselves, since those replace
// values that cannot be used without a word. host is where a collector is without an
// endpoint; "" means nowhere.
func (r *telemetry) exporter(s signal, host string) *Collector {
	const all = "OTEL_EXPORTER_OTLP_"
	get := func(name string) (string, string) {
		// One for this signal alone beats the other.
		if text := strings.TrimSpace(r.getenv(all + s.name + "_" + name)); text != "" {
			return all + s.name + "_" + name, text
		}
		return all + name, strings.TrimSpace(r.getenv(all + name))
	}
	o := &Collector{Timeout: 10 * time.Second}
	protocolName, protocol := get("PROTOCOL")
	o.GRPC = protocol == "grpc"
	name, endpoint := get("ENDPOINT")
	if endpoint == "" && host != "" {
		endpoint = host + ":4318"
		if o.GRPC {
			endpoint = host + ":4317"
		}
	}
	if endpoint == "" {
		return nil
	}
	if protocol != "" && protocol != "http/protobuf" && !o.GRPC {
		r.complain(protocolName, "%q is not spoken here; http/protobuf is used", protocol)
	}
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		r.complain(name, "it must be a URL that begins with http:// or https://; %s", s.disabled)
		return nil
	}
	if name == all+"ENDPOINT" && !o.GRPC {
		u = u.JoinPath("v1", s.path)
	}
	o.Endpoint = u.String()
	if name, text := get("TIMEOUT"); text != "" {
		if ms, err := strconv.Atoi(text); err == nil && ms > 0 && ms <= int(time.Hour/time.Millisecond) {
			o.Timeout = time.Duration(ms) * time.Millisecond
		} else {
			r.complain(name, "it must be a number of milliseconds; %v are used", o.Timeout)
		}
	}
	switch name, text := get("COMPRESSION"); text {
	case "gzip":
		o.Gzip = true
	case "", "none":
	default:
		r.complain(name, "it must be gzip or none; none is used")
	}
	name, text := get("HEADERS")
	var ok bool
	if o.Headers, ok = headers(text); !ok {
		r.complain(name, "it must be name=value pairs separated by commas, values percent-encoded; what is not is left out")
	}
	_, o.CAFile = get("CERTIFICATE")
	_, o.CertFile = get("CLIENT_CERTIFICATE")
	_, o.KeyFile = get("CLIENT_KEY")
	return o
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// headers splits name=value pairs; no value is ever in a message.
func headers(text string) (map[string]string, bool) {
	list, ok := map[string]string{}, true
	for _, pair := range splitList(text) {
		name, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !found || err != nil || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
			ok = false
			continue
		}
		list[name] = value
	}
	return list, ok
}

// sampler reads which share of the traces is wanted. A record does not say whether
// its parent was taken, so that there is nothing to base a decision on: with and
// without parentbased_ the names mean the same.
func (r *telemetry) sampler(o *Traces) {
	const name, arg = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	switch strings.TrimPrefix(r.getenv(name), "parentbased_") {
	case "", "always_on":
	case "always_off":
		o.Share = 0
	case "traceidratio":
		text := r.getenv(arg)
		if text == "" {
			return
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 && f <= 1 {
			o.Share = f
		} else {
			r.complain(arg, "it must be a number from 0 to 1; all traces are taken")
		}
	default:
		r.complain(name, "%q is not known here; all traces are taken", r.getenv(name))
	}
}
