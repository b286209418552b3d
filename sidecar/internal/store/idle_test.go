package store

import (
	"errors"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redistest"
)

// TestReconnect: idle connections, that of the waits among them, stay with the server
// that they have reached until they are told to go.
func TestReconnect(t *testing.T) {
	server, other := redistest.Start(t), redistest.Start(t)
	proxy, err := faultproxy.Start(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	c, err := NewClient(ClientOptions{URL: "redis://" + proxy.Addr() + "/0", PoolSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := New(c, Options{Prefix: "p"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	use := func() error {
		_, err := s.Wait(ctx, "w", time.Second)
		return errors.Join(err, s.Renew(ctx, "w"))
	}
	if err := s.Register(ctx, "w"); err != nil {
		t.Fatal(err)
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	proxy.SetUpstream(other.Addr)
	if err := use(); err != nil {
		t.Errorf("the connections have not stayed: %v", err)
	}
	before := len(proxy.Accepted())
	s.Reconnect(ctx)
	if err := use(); !errors.Is(err, ErrGone) {
		t.Errorf("the other server knows the run: %v", err)
	}
	if n := len(proxy.Accepted()) - before; n != 2 {
		t.Errorf("%d new connections, want that of the waits and one more", n)
	}
}
