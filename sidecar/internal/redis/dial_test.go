package redis

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
)

// TestDialLogsIn uses a real Redis: Dial logs in, and leaves all that comes after to its caller.
func TestDialLogsIn(t *testing.T) {
	p, err := serverproc.Start(t.Context(), serverproc.Options{Dir: t.TempDir(), Args: []string{"--requirepass", "hush hush"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	for _, c := range []struct {
		username, password, want, problem string
	}{
		{"", "hush hush", "+PONG\r\n", ""},
		{"default", "hush hush", "+PONG\r\n", ""},
		{"", "", "-NOAUTH Authentication required.\r\n", ""},
		{"", "wrong one", "", "WRONGPASS"},
		{"nobody", "hush hush", "", "WRONGPASS"},
	} {
		conn, err := Dial(t.Context(), ClientOptions{URL: "redis://" + p.Addr() + "/3", Username: c.username, Password: c.password, DialTimeout: 30 * time.Second})
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), c.password) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		_, _ = fmt.Fprint(conn, "PING\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != c.want {
			t.Errorf("%+v: %q %v", c, line, err)
		}
		conn.Close()
	}
}

// TestDialRefreshesThePassword: it may have been changed since the last connection.
func TestDialRefreshesThePassword(t *testing.T) {
	p, err := serverproc.Start(t.Context(), serverproc.Options{Dir: t.TempDir(), Args: []string{"--requirepass", "two"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	password := "one"
	o := ClientOptions{URL: "redis://" + p.Addr(), Password: "one", DialTimeout: 30 * time.Second, RefreshPassword: func() (string, error) { return password, nil }}
	if _, err := Dial(t.Context(), o); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with the earlier password: %v", err)
	}
	password = "two"
	conn, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprint(conn, "PING\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "+PONG\r\n" {
		t.Errorf("%q %v", line, err)
	}
}

// TestTellingSaysWhatTheServerSaid: it refuses our certificate and is gone before
// we write.
func TestTellingSaysWhatTheServerSaid(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gone := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err == nil {
			err = tls.Server(raw, &tls.Config{
				MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
				Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
			}).Handshake()
			_ = raw.(*net.TCPConn).SetLinger(0) // a reset, as when it has not read all we wrote
			raw.Close()
		}
		gone <- err
	}()
	conn, err := dialer(time.Minute, &tls.Config{InsecureSkipVerify: true}, nil)(t.Context(), "tcp", l.Addr().String()) //nolint:gosec // its certificate is not what is tried
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := <-gone; err == nil {
		t.Fatal("the server took us without a certificate")
	}
	if _, err := conn.Write([]byte("PING\r\n")); err == nil || !strings.Contains(err.Error(), "certificate required") || ClassName(err) != "tls" {
		t.Errorf("%v (class %s)", err, ClassName(err))
	}
}

// TestDialDoesNotSwallow what a server says after its answer.
func TestDialDoesNotSwallow(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = io.ReadFull(theirs, make([]byte, len("*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n")))
		_, _ = io.WriteString(theirs, "+OK\r\n")
		_, _ = io.WriteString(theirs, "more")
		theirs.Close()
	}()
	if err := logIn(ours, "", "p", time.Minute); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(ours); string(rest) != "more" {
		t.Errorf("%q", rest)
	}
}
