package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
)

// TraceProblem is a variable of OpenTelemetry's that cannot be used. They are not
// ours, and often those of a whole cluster: none of them ends the sidecar.
type TraceProblem struct{ Variable, Reason string }

// otlp is how the variables of the exporter begin. One with TRACES_ in between is
// for traces alone and beats the other.
const (
	otlp       = "OTEL_EXPORTER_OTLP_"
	otlpTraces = otlp + "TRACES_"
)

// traces reads OpenTelemetry's variables for what the SDK does not read itself.
// Without an endpoint there are no traces.
func traces(getenv func(string) string) (o *tracing.Options, problems []TraceProblem) {
	complain := func(name, format string, args ...any) {
		problems = append(problems, TraceProblem{name, fmt.Sprintf(format, args...)})
	}
	get := func(name string) (string, string) {
		if text := strings.TrimSpace(getenv(otlpTraces + name)); text != "" {
			return otlpTraces + name, text
		}
		return otlp + name, strings.TrimSpace(getenv(otlp + name))
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(getenv("OTEL_TRACES_EXPORTER"), "none") {
		return nil, nil
	}
	name, endpoint := get("ENDPOINT")
	if endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		complain(name, "it must be a URL that begins with http:// or https://; no traces are made")
		return nil, problems
	}
	if name == otlp+"ENDPOINT" {
		u = u.JoinPath("v1", "traces")
	}
	o = &tracing.Options{Endpoint: u.String(), Timeout: 10 * time.Second, Share: 1}
	if name, text := get("PROTOCOL"); text != "" && text != "http/protobuf" {
		complain(name, "%q is not spoken here; traces are sent as http/protobuf", text)
	}
	if name, text := get("TIMEOUT"); text != "" {
		if ms, err := strconv.Atoi(text); err == nil && ms > 0 && ms <= int(time.Hour/time.Millisecond) {
			o.Timeout = time.Duration(ms) * time.Millisecond
		} else {
			complain(name, "it must be a number of milliseconds; %v are used", o.Timeout)
		}
	}
	switch name, text := get("COMPRESSION"); text {
	case "gzip":
		o.Gzip = true
	case "", "none":
	default:
		complain(name, "it must be gzip or none; none is used")
	}
	name, text := get("HEADERS")
	var ok bool
	if o.Headers, ok = headers(text); !ok {
		complain(name, "it must be name=value pairs separated by commas, values percent-encoded; what is not is left out")
	}
	_, o.CAFile = get("CERTIFICATE")
	_, o.CertFile = get("CLIENT_CERTIFICATE")
	_, o.KeyFile = get("CLIENT_KEY")
	sampler(getenv, o, complain)
	return o, problems
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
func sampler(getenv func(string) string, o *tracing.Options, complain func(name, format string, args ...any)) {
	const name, arg = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	switch strings.TrimPrefix(getenv(name), "parentbased_") {
	case "", "always_on":
	case "always_off":
		o.Share = 0
	case "traceidratio":
		text := getenv(arg)
		if text == "" {
			return
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 && f <= 1 {
			o.Share = f
		} else {
			complain(arg, "it must be a number from 0 to 1; all traces are taken")
		}
	default:
		complain(name, "%q is not known here; all traces are taken", getenv(name))
	}
}
