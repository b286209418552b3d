package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/connlimit"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type bench struct {
	t      *testing.T
	server *web.Server
	client *http.Client
	stop   context.CancelFunc
	wait   func() error

	mu     sync.Mutex
	health observe.Health
}

func (b *bench) set(h observe.Health) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health = h
}

func start(t *testing.T, change func(*web.Options)) *bench {
	t.Helper()
	b := &bench{t: t, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}}
	o := web.Options{
		Health: func() observe.Health {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.health
		},
		Self: func() fleet.Run {
			return fleet.Run{ID: "run", Busy: 1, Children: []fleet.Child{{PID: 7, Tasks: []fleet.Task{
				{TaskID: "secret task", SessionID: "secret session", GroupID: "secret group", Delivery: "run.1", Message: "secret message", Attempt: 2},
			}}}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "numbers") }),
		Log:     slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	server, err := web.New("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	b.server = server
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	b.stop, b.wait = stop, sync.OnceValue(func() error { return <-ended })
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		stop()
		if err := b.wait(); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
	return b
}

func (b *bench) get(path string) (status int, text string) {
	b.t.Helper()
	answer, err := b.client.Get(b.server.URL() + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(body))
}

func TestProbes(t *testing.T) {
	b := start(t, nil)
	for _, c := range []struct {
		health              observe.Health
		live, ready, booted int
		why                 string
	}{
		{observe.Health{Alive: true, Reasons: []string{"0 of 4 workers are up"}}, 200, 503, 503, "0 of 4 workers are up"},
		{observe.Health{Alive: true, Ready: true, Started: true}, 200, 200, 200, ""},
		{observe.Health{Alive: true, Started: true, Reasons: []string{"redis is lost"}}, 200, 503, 200, "redis is lost"},
		{observe.Health{Started: true, Reasons: []string{"stuck"}}, 503, 503, 200, "stuck"},
	} {
		b.set(c.health)
		for path, want := range map[string]int{"/livez": c.live, "/readyz": c.ready, "/startupz": c.booted} {
			status, text := b.get(path)
			var v struct {
				OK      bool     `json:"ok"`
				Reasons []string `json:"reasons"`
			}
			if err := json.Unmarshal([]byte(text), &v); err != nil || status != want || v.OK != (want == 200) {
				t.Errorf("%+v: %s: %d %s %v", c.health, path, status, text, err)
			}
			if path == "/readyz" && !strings.Contains(text, c.why) {
				t.Errorf("%+v: says %s", c.health, text)
			}
		}
	}
}

func TestStatusShowsCountsToWhoeverMayNotSeeRecords(t *testing.T) {
	b := start(t, func(o *web.Options) {
		o.Details = func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }
	})
	status, text := b.get("/status")
	if status != 200 || strings.Contains(text, "secret") || !strings.Contains(text, `"delivery":"run.1"`) || !strings.Contains(text, `"busy":1`) {
		t.Errorf("%d %s", status, text)
	}
	all := start(t, nil)
	if _, text := all.get("/status"); strings.Count(text, "secret") != 4 {
		t.Errorf("not all of it: %s", text)
	}
}

func TestOtherPaths(t *testing.T) {
	b := start(t, nil)
	if status, text := b.get("/metrics"); status != 200 || text != "numbers" {
		t.Errorf("metrics: %d %s", status, text)
	}
	if status, _ := b.get("/nothing"); status != 404 {
		t.Errorf("an unknown path: %d", status)
	}
	answer, err := b.client.Post(b.server.URL()+"/status", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", answer.StatusCode)
	}
}

// TestIdleConnectionsAreBounded: there are a few hundred at most, and the next one
// is answered.
func TestIdleConnectionsAreBounded(t *testing.T) {
	b := start(t, nil)
	addr := strings.TrimPrefix(b.server.URL(), "http://")
	var idle []net.Conn
	for range 400 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	if status, _ := b.get("/status"); status != 200 {
		t.Errorf("beside idle connections the answer is %d", status)
	}
	// Whether the first ones are closed shows in a read, which would wait else.
	for i, c := range idle[:400-connlimit.Default()] {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is still there: %v", i, err)
		}
	}
}

// TestAStopIsNotHeldUp by a request that does not end.
func TestAStopIsNotHeldUp(t *testing.T) {
	begun := make(chan struct{})
	b := start(t, func(o *web.Options) {
		o.Extra = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
		})
	})
	go func() { // it ends with the server
		answer, err := b.client.Get(b.server.URL() + "/stream")
		if err == nil {
			answer.Body.Close()
		}
	}()
	<-begun
	b.stop()
	if err := b.wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestAnAddressThatIsTaken(t *testing.T) {
	b := start(t, nil)
	if _, err := web.New(strings.TrimPrefix(b.server.URL(), "http://"), web.Options{Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("listens twice")
	}
	if !b.server.Loopback() {
		t.Error("127.0.0.1 is loopback")
	}
}
