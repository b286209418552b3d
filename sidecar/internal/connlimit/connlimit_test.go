package connlimit

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a server with a limit whose /wait holds a request until it is let go.
type bench struct {
	t       *testing.T
	limiter *Limiter
	addr    string
	waiting chan struct{}
	letGo   chan struct{}
}

func start(t *testing.T, total int) *bench {
	t.Helper()
	b := &bench{t: t, limiter: New(total), waiting: make(chan struct{}, 1000), letGo: make(chan struct{})}
	b.limiter.Authenticated = func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer token" }
	b.limiter.Free = []string{"/livez"}
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/wait", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		b.waiting <- struct{}{}
		<-b.letGo
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	b.limiter.Guard(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(b.limiter.Listener(listener)) })
	t.Cleanup(func() {
		close(b.letGo)
		_ = server.Close()
		serving.Wait()
	})
	return b
}

func (b *bench) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// ask sends a request and returns the status, 0 where the connection was closed.
func (b *bench) ask(c net.Conn, path, token string) int {
	b.t.Helper()
	head := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if _, err := fmt.Fprint(c, head+"\r\n"); err != nil {
		return 0
	}
	// The status line is enough: the body of /wait has no end.
	var status int
	if _, err := fmt.Fscanf(bufio.NewReader(c), "HTTP/1.1 %d", &status); err != nil {
		return 0
	}
	return status
}

func (b *bench) closed(c net.Conn) bool {
	b.t.Helper()
	_, err := c.Read(make([]byte, 1))
	return err != nil
}

// TestQuietConnectionsMakeRoom: the one that has been without a request for longest
// is closed, also one that has never had any, and a newcomer is answered.
func TestQuietConnectionsMakeRoom(t *testing.T) {
	b := start(t, 14)
	silent := b.dial()
	idle := b.dial()
	b.ask(idle, "/livez", "")
	authenticated := b.dial()
	b.ask(authenticated, "/none", "token")
	for i := range 100 {
		if status := b.ask(b.dial(), "/livez", ""); status != 200 {
			t.Fatalf("newcomer %d is answered %d", i, status)
		}
	}
	if n := b.limiter.Open(); n > 14 {
		t.Errorf("%d connections are open", n)
	}
	if !b.closed(silent) || !b.closed(idle) {
		t.Error("a connection without a request was kept")
	}
	if status := b.ask(authenticated, "/none", "token"); status != 404 {
		t.Errorf("the connection that was authenticated is answered %d", status)
	}
}

// TestPlacesAreKeptForTheToken: requests that are not authenticated never have them all.
func TestPlacesAreKeptForTheToken(t *testing.T) {
	b := start(t, 14)
	for range 12 {
		go func(c net.Conn) { _, _ = fmt.Fprint(c, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n") }(b.dial())
		<-b.waiting
	}
	for range 20 {
		if status := b.ask(b.dial(), "/wait", ""); status != 503 {
			t.Fatalf("one request too many is answered %d", status)
		}
	}
	if status := b.ask(b.dial(), "/livez", ""); status != 200 {
		t.Errorf("a probe is answered %d", status)
	}
	for _, token := range []string{"wrong", "token"} {
		want := map[string]int{"wrong": 503, "token": 200}[token]
		if status := b.ask(b.dial(), "/wait", token); status != want {
			t.Errorf("with %q the answer is %d, want %d", token, status, want)
		}
	}
	// One place is left, and then each has a request. The server may not have noticed
	// yet that the probe is answered.
	for patience := time.Now().Add(10 * time.Second); b.ask(b.dial(), "/wait", "token") != 200; {
		if time.Now().After(patience) {
			t.Fatal("the last place is not given")
		}
	}
	if status := b.ask(b.dial(), "/wait", "token"); status != 0 {
		t.Errorf("a connection beyond the limit is answered %d", status)
	}
}

func TestDefaultFitsTheDescriptors(t *testing.T) {
	if n := Default(); n < 8 || n > maxConnections || n > max(Files()/share, 8) {
		t.Errorf("%d connections of %d descriptors", n, Files())
	}
}

// endless is a listener with a newcomer at any time.
type endless struct{ net.Listener }

func (endless) Accept() (net.Conn, error) { return &net.TCPConn{}, nil }
func (endless) Close() error              { return nil }

// TestAcceptWaitsForWhatIsServed: connections whose goroutines have not ended hold
// back further ones, until one of them ends or the listener is closed.
func TestAcceptWaitsForWhatIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := New(14)
		listener := limiter.Listener(endless{})
		accepted := make(chan net.Conn, 14+spare)
		over := make(chan struct{})
		go func() {
			defer close(over)
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		synctest.Wait()
		if n := len(accepted); n != 14+spare {
			t.Fatalf("%d connections are accepted, want %d", n, 14+spare)
		}
		limiter.change(<-accepted, http.StateClosed)
		limiter.change(<-accepted, http.StateHijacked)
		synctest.Wait()
		if n := len(accepted); n != 14+spare {
			t.Errorf("%d connections are accepted after the end of two, want %d", n, 14+spare)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-over
	})
}
