// Package otlp makes the exporters that send spans and metrics to an OpenTelemetry
// collector: those of OpenTelemetry's SDK, over HTTP or gRPC. It bounds what a
// collector can cost: each export has an end, a stop waits for its budget at most,
// and a row of failures is two lines in the log.
package otlp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"google.golang.org/grpc/grpclog"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
)

// Options say where one signal (spans, or metrics) goes, and from where.
type Options struct {
	config.Collector

	Resource *resource.Resource // the sender; see NewResource
	Version  string
	Log      *slog.Logger
}

// NewResource describes this sidecar to a collector. OTEL_RESOURCE_ATTRIBUTES and
// OTEL_SERVICE_NAME override what it says.
func NewResource(version, workerID string) *resource.Resource {
	// Detectors that fail leave out what they would have told.
	r, _ := resource.New(context.Background(),
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(
			semconv.ServiceName("graflow-sidecar"), semconv.ServiceVersion(version),
			semconv.ServiceInstanceID(strings.ToValidUTF8(workerID, "\uFFFD")+"-"+rand.Text()),
		),
		resource.WithFromEnv(),
	)
	return r
}

// quietLibraries keeps the libraries from writing to stderr. Their own lines may hold
// values of the environment (headers), so that they are not logged at all.
var quietLibraries = sync.OnceFunc(func() {
	otel.SetLogger(logr.Discard())
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
})

// connection is what both exporters need to reach the collector.
type connection struct {
	Options
	url  *url.URL
	tls  *tls.Config
	http *http.Client
}

func (o Options) connect() (connection, error) {
	quietLibraries()
	// Errors of the exporters are logged by a Delivery, before the SDK sees them. What
	// else the SDK reports needs no operator.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Log.Debug("opentelemetry error", "error", err) }))
	c := connection{Options: o}
	var err error
	if c.url, err = url.Parse(o.Endpoint); err != nil {
		return c, err
	}
	if c.tls, err = o.tlsConfig(); err != nil {
		return c, err
	}
	c.Headers = maps.Clone(o.Headers)
	if c.Headers == nil {
		c.Headers = map[string]string{}
	}
	if user := c.url.User; user != nil && c.Headers["Authorization"] == "" && c.Headers["authorization"] == "" {
		password, _ := user.Password()
		c.Headers["authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
	}
	c.http = c.httpClient()
	return c, nil
}

// secure reports whether the endpoint speaks TLS.
func (c connection) secure() bool { return c.url.Scheme == "https" }

func (c connection) userAgent() string { return "graflow-sidecar/" + c.Version }

func (o Options) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := settingfile.Read(o.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.CAFile)
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := settingfile.KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
