package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
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
	use := func() (wait, renew error) {
		_, wait = s.Wait(ctx, "w", time.Second)
		return wait, s.Renew(ctx, "w")
	}
	if err := s.Register(ctx, "w"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(use()); err != nil {
		t.Fatal(err)
	}
	proxy.SetUpstream(other.Addr)
	if err := other.Client().RPush(ctx, "p:queue", "r").Err(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(use()); err != nil {
		t.Errorf("the connections have not stayed: %v", err)
	}
	s.Reconnect(ctx)
	if wait, renew := use(); !errors.Is(wait, ErrGone) || !errors.Is(renew, ErrGone) {
		t.Errorf("the other server knows the run: %v, %v", wait, renew)
	}
	if n, err := other.Client().Exists(ctx, "p:sidecar:inbox:w").Result(); n != 0 || err != nil {
		t.Errorf("a record of the other server was taken: %d, %v", n, err)
	}
}
