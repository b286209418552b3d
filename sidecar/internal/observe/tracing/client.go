package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
)

// client speaks OTLP over HTTP. It is our own since OpenTelemetry's doubles the
// size of the binary: it brings all of gRPC along for one message type (see
// docs/adr/0037).
type client struct {
	o     Options
	shown string // the endpoint without a password
	http  *http.Client

	ctx context.Context // until cut
	cut context.CancelFunc
	// more ends sooner: when there are no second tries any more.
	more context.Context
	last context.CancelFunc

	mu   sync.Mutex
	lost time.Time // since when nothing gets through; zero while it does
}

// retryPolicy is between tries of one batch.
var retryPolicy = backoff.Policy{Min: 500 * time.Millisecond, Max: 5 * time.Second}

func newClient(o Options) (*client, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, err
	}
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
	c := &client{o: o, shown: endpoint.Redacted(), http: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig: config, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: 90 * time.Second,
		},
		// It would make a GET of a POST, and take a page to log in at for an answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.ctx, c.cut = context.WithCancel(context.Background())
	c.more, c.last = context.WithCancel(c.ctx)
	return c, nil
}

func (c *client) Start(context.Context) error { return nil }
func (c *client) Stop(context.Context) error  { return nil }

func (c *client) close() {
	c.cut()
	c.http.CloseIdleConnections()
}

// UploadTraces sends one batch. It says itself what went wrong, once for a row of
// failures, and gives the SDK no error to say again.
func (c *client) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	// The same bytes as an ExportTraceServiceRequest, whose package has the gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err == nil && c.o.Gzip {
		body, err = zipped(body)
	}
	if err == nil {
		err = c.insist(body)
	}
	c.note(err)
	return nil
}

// insist tries until the batch's time is over.
func (c *client) insist(body []byte) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
	defer cancel()
	again, stop := context.WithTimeout(c.more, c.o.Timeout)
	defer stop()
	pause := backoff.New(retryPolicy)
	for {
		after, err := c.post(ctx, body)
		if err == nil || after < 0 || !backoff.Sleep(again, max(after, pause.Next())) {
			return err
		}
	}
}

// maxReply is what is read of an answer.
const maxReply = 64 << 10

// post tries once. Where another try makes sense after is how long to wait at
// least, and else negative.
func (c *client) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.o.Endpoint, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	for name, value := range c.o.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "graflow-sidecar/"+c.o.Version)
	req.Header.Set("Content-Type", "application/x-protobuf")
	if c.o.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	switch {
	case resp.StatusCode/100 == 2:
		return -1, refused(reply)
	case err != nil:
		return 0, err
	}
	err = fmt.Errorf("the collector answered %s%s", resp.Status, words(reply))
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return time.Duration(max(seconds, 0)) * time.Second, err
	default:
		return -1, err
	}
}

// refused reads from an answer whether some of the spans were not taken: an
// ExportTraceServiceResponse, whose only field says how many and why. An answer
// that is none says nothing of the kind.
func refused(reply []byte) error {
	var spans uint64
	var why []byte
	fields := func(b []byte, f func(n protowire.Number, number uint64, text []byte)) {
		for len(b) > 0 {
			n, typ, size := protowire.ConsumeTag(b)
			if size < 0 {
				return
			}
			value := b[size:]
			var number uint64
			var text []byte
			switch typ {
			case protowire.VarintType:
				number, size = protowire.ConsumeVarint(value)
			case protowire.BytesType:
				text, size = protowire.ConsumeBytes(value)
			default:
				size = protowire.ConsumeFieldValue(n, typ, value)
			}
			if size < 0 {
				return
			}
			f(n, number, text)
			b = value[size:]
		}
	}
	fields(reply, func(n protowire.Number, _ uint64, partial []byte) {
		fields(partial, func(m protowire.Number, number uint64, text []byte) {
			switch {
			case n == 1 && m == 1:
				spans = number
			case n == 1 && m == 2:
				why = text
			}
		})
	})
	if spans == 0 {
		return nil // it may have said something all the same, which is a hint
	}
	return fmt.Errorf("the collector did not take %d of the spans%s", spans, words(why))
}

// words quotes an answer that is text.
func words(reply []byte) string {
	const most = 200
	text := strings.TrimSpace(strings.ToValidUTF8(string(reply[:min(len(reply), most)]), ""))
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
		return ""
	}
	return ": " + text
}

func zipped(body []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(body)
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}

// note logs the first failure of a row, and its end.
func (c *client) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && !c.lost.IsZero():
		c.o.Log.Info("traces are delivered again", "after", time.Since(c.lost).Round(time.Millisecond).String())
		c.lost = time.Time{}
	case err != nil && c.lost.IsZero():
		c.lost = time.Now()
		c.o.Log.Log(context.Background(), slog.LevelWarn, "traces cannot be delivered and are dropped", "endpoint", c.shown, "error", err.Error())
	}
}
