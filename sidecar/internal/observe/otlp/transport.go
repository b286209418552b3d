package otlp

import (
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

func (c connection) credentials() credentials.TransportCredentials {
	if c.secure() {
		return credentials.NewTLS(c.tls)
	}
	return insecure.NewCredentials()
}

func (c connection) httpClient() *http.Client {
	c.Headers["User-Agent"] = c.userAgent()
	return &http.Client{
		Transport: &transport{query: c.url.RawQuery, next: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig: c.tls, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: 90 * time.Second,
		}},
		// Followed, a redirect would make a GET of a POST, and count a login page as an answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// transport adds what the SDK leaves out: it repeats a try also where no connection
// can be made, as while a collector restarts, and the endpoint's query is sent.
type transport struct {
	next  http.RoundTripper
	query string
}

// CloseIdleConnections is called by http.Client's method.
func (t *transport) CloseIdleConnections() {
	(&http.Client{Transport: t.next}).CloseIdleConnections()
}

// RoundTrip is http.RoundTripper's.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.query != "" {
		r = r.Clone(r.Context())
		r.URL.RawQuery = t.query
	}
	resp, err := t.next.RoundTrip(r)
	switch {
	case err != nil:
		tryFailed(r.Context())
		return nil, temporary{err}
	case resp.StatusCode >= http.StatusMultipleChoices:
		tryFailed(r.Context())
	}
	return resp, nil
}

// temporary is what the SDK tries again after.
type temporary struct{ error }

// Temporary is what the SDK asks an error for.
func (temporary) Temporary() bool { return true }

func (e temporary) Unwrap() error { return e.error }
