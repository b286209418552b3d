package redisproxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// start runs a proxy, and gives its path.
func start(t *testing.T, dial func(context.Context) (net.Conn, error), change ...func(*Proxy)) (path string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	r, err := Listen(Config{Path: path, Mode: 0o600, Dial: dial, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return path, func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	}
}

func connect(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// echo is a server that says everything again.
func echo(t *testing.T) func(context.Context) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

func TestItPassesOnWhatComes(t *testing.T) {
	path, stop := start(t, echo(t))
	conn := connect(t, path)
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	go func() { _, _ = conn.Write(data) }()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("other bytes came back: %v", err)
	}
	stop() // with a connection that is open
	if _, err := conn.Read(got); err == nil {
		t.Error("its connection outlives it")
	}
}

// TestTooManyConnections: one beyond the bound is closed at once, and has a place
// when another one is gone.
func TestTooManyConnections(t *testing.T) {
	path, stop := start(t, echo(t), func(r *Proxy) { r.tokens = make(chan struct{}, 1) })
	defer stop()
	answered := func(conn net.Conn) bool {
		_, _ = conn.Write([]byte{1})
		_, err := conn.Read(make([]byte, 1))
		return err == nil
	}
	first := connect(t, path)
	if !answered(first) {
		t.Error("the first one has no place")
	}
	if answered(connect(t, path)) {
		t.Error("the second one has a place")
	}
	first.Close()
	deadline := time.Now().Add(patience)
	for !answered(connect(t, path)) {
		if time.Now().After(deadline) {
			t.Fatal("its place is not given to another one")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWhereRedisIsAway(t *testing.T) {
	path, stop := start(t, func(context.Context) (net.Conn, error) { return nil, errors.New("refused") })
	defer stop()
	if n, err := connect(t, path).Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d %v: the client would wait", n, err)
	}
}
