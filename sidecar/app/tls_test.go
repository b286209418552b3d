package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// authority signs the certificates of a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.sign(name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes NAME.crt and NAME.key.
func (a *authority) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	c.SerialNumber, c.Subject = big.NewInt(a.n), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		a.path(name + ".crt"): {Type: "CERTIFICATE", Bytes: der}, a.path(name + ".key"): {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// tlsServer is a Redis that speaks TLS with clients that show a certificate of
// the authority. Its own certificate is for the name redis.test.
func tlsServer(t *testing.T, a *authority) (*redistest.Instance, string) {
	t.Helper()
	a.sign("server", &x509.Certificate{DNSNames: []string{"redis.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	port := redistest.FreePort(t)
	server := redistest.Start(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", a.path("server.crt"), "--tls-key-file", a.path("server.key"),
		"--tls-ca-cert-file", a.path("ca.crt"), "--tls-auth-clients", "yes")
	return server, net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
}

// With a CA, a server name and a client certificate a task goes through TLS; a
// certificate that is replaced is used by the next connection.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, t.TempDir(), "ca")
	server, addr := tlsServer(t, a)
	log := &testlog.Buffer{}
	b := &bundle{t: t, rdb: server.Client(), prefix: redistest.Prefix(t), log: log}
	cfg := settings(t, "rediss://"+addr+"/0", b.prefix, log)
	cfg.Redis.TLS, cfg.Redis.TLSCAFile, cfg.Redis.TLSServerName = true, a.path("ca.crt"), "redis.test"
	cfg.Redis.TLSCertFile, cfg.Redis.TLSKeyFile = a.path("client.crt"), a.path("client.key")
	b.app = start(t, cfg, log)
	b.push(job{TaskID: "first", SessionID: b.prefix})
	await(t, "the first task", func() bool { return b.result(b.prefix, "first") != "" })

	a.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err := b.rdb.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	b.push(job{TaskID: "second", SessionID: b.prefix})
	await(t, "a task after a new certificate", func() bool { return b.result(b.prefix, "second") != "" })
}

// What is wrong with TLS is said in one line that names it, and again only every
// ten seconds.
func TestTLSMistakes(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, t.TempDir(), "ca")
	newAuthority(t, a.dir, "other")
	_, addr := tlsServer(t, a)
	for _, test := range []struct {
		name   string
		change func(*config.Redis)
		want   string
	}{
		{"another authority", func(r *config.Redis) { r.TLSCAFile = a.path("other.crt") }, "certificate signed by unknown authority"},
		{"another name", func(r *config.Redis) { r.TLSServerName = "elsewhere.test" }, "not elsewhere.test"},
		{"no certificate of ours", func(r *config.Redis) { r.TLSCertFile, r.TLSKeyFile = "", "" }, "certificate required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log := &testlog.Buffer{}
			cfg := settings(t, "rediss://"+addr+"/0", redistest.Prefix(t), log)
			cfg.Redis.TLS, cfg.Redis.TLSCAFile, cfg.Redis.TLSServerName = true, a.path("ca.crt"), "redis.test"
			cfg.Redis.TLSCertFile, cfg.Redis.TLSKeyFile = a.path("client.crt"), a.path("client.key")
			test.change(&cfg.Redis)
			start(t, cfg, log)
			lost := func() (lines []string) {
				for line := range strings.SplitSeq(log.String(), "\n") {
					if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
						lines = append(lines, line)
					}
				}
				return lines
			}
			await(t, "word of it", func() bool { return len(lost()) > 0 })
			if lines := lost(); len(lines) != 1 || !strings.Contains(lines[0], test.want) {
				t.Errorf("want one line with %q:\n%s", test.want, strings.Join(lines, "\n"))
			}
		})
	}
}

// A password that changes is read from its file for the next connection.
func TestAPasswordIsReadAnew(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client()
	log := &testlog.Buffer{}
	b := &bundle{t: t, rdb: rdb, prefix: redistest.Prefix(t), log: log}
	file := filepath.Join(t.TempDir(), "password")
	setUser := func(rules ...any) {
		t.Helper()
		if err := rdb.Do(t.Context(), append([]any{"acl", "setuser", "worker", "on", "allkeys", "allchannels", "+@all"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	setUser(">old")
	write("old")
	cfg := settings(t, "redis://worker@"+server.Addr+"/0", b.prefix, log)
	cfg.Redis.PasswordFile = file
	b.app = start(t, cfg, log)
	b.push(job{TaskID: "first", SessionID: b.prefix})
	await(t, "the first task", func() bool { return b.result(b.prefix, "first") != "" })

	// The order that docs/redis.md recommends: both are valid for a while.
	setUser(">new")
	write("new")
	setUser("<old")
	works := func(task string) {
		t.Helper()
		if err := rdb.ClientKillByFilter(t.Context(), "USER", "worker").Err(); err != nil {
			t.Fatal(err)
		}
		b.push(job{TaskID: task, SessionID: b.prefix})
		await(t, "a task with "+task, func() bool { return b.result(b.prefix, task) != "" })
	}
	works("a new password")

	// While it is replaced the last password serves.
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	works("an empty file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	works("no file")
}
