package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestNewClient(t *testing.T) {
	named := &tls.Config{MinVersion: tls.VersionTLS13}
	for _, c := range []struct {
		name string
		o    ClientOptions
		want goredis.Options // only what is set here is looked at
		tls  string          // server name, "-" for TLS without one
	}{
		{"nothing", ClientOptions{}, goredis.Options{Addr: "localhost:6379", Network: "tcp"}, ""},
		{"host and port", ClientOptions{Host: "h", Port: 7, DB: 3}, goredis.Options{Addr: "h:7", DB: 3}, ""},
		{"IPv6", ClientOptions{Host: "::1"}, goredis.Options{Addr: "[::1]:6379"}, ""},
		{"socket as host", ClientOptions{Host: "/run/redis.sock"}, goredis.Options{Addr: "/run/redis.sock", Network: "unix"}, ""},
		{
			"redis URL",
			ClientOptions{URL: "redis://u:p@h:7/2", Host: "ignored", Username: "x", Password: "y", DB: 9},
			goredis.Options{Addr: "h:7", DB: 2, Username: "u", Password: "p"},
			"",
		},
		{
			"what a URL leaves open",
			ClientOptions{URL: "redis://h", Username: "x", Password: "y", DB: 9},
			goredis.Options{Addr: "h:6379", DB: 9, Username: "x", Password: "y"},
			"",
		},
		{"rediss URL", ClientOptions{URL: "rediss://h:7"}, goredis.Options{Addr: "h:7"}, "h"},
		{"rediss URL and TLS", ClientOptions{URL: "rediss://h:7", TLS: named}, goredis.Options{Addr: "h:7"}, "h"},
		{"TLS alone", ClientOptions{Host: "h", TLS: named}, goredis.Options{Addr: "h:6379"}, "-"},
		{"unix URL", ClientOptions{URL: "unix://u:p@/run/r.sock?db=4"}, goredis.Options{Addr: "/run/r.sock", Network: "unix", DB: 4, Username: "u"}, ""},
		{
			"pool and time",
			ClientOptions{PoolSize: 9, MinIdleConns: 1, ConnMaxIdleTime: time.Minute, DialTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second},
			goredis.Options{Addr: "localhost:6379", MaxActiveConns: 9, MinIdleConns: 1, ConnMaxIdleTime: time.Minute, DialTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second},
			"",
		},
		{"pool too small", ClientOptions{PoolSize: 1}, goredis.Options{Addr: "localhost:6379", MaxActiveConns: 2}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := NewClient(c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			got := client.(*goredis.Client).Options()
			same(t, "address", got.Addr, c.want.Addr)
			same(t, "database", got.DB, c.want.DB)
			same(t, "user", got.Username, c.want.Username)
			for _, opt := range []struct {
				name      string
				got, want any
				set       bool
			}{
				{"network", got.Network, c.want.Network, c.want.Network != ""},
				{"password", got.Password, c.want.Password, c.want.Password != ""},
				{"pool size", got.MaxActiveConns, c.want.MaxActiveConns, c.want.MaxActiveConns != 0},
				{"go-redis' breaker", got.PoolSize, breakerOff, c.want.MaxActiveConns != 0},
				{"idle", got.MinIdleConns, c.want.MinIdleConns, c.want.MinIdleConns != 0},
				{"idle time", got.ConnMaxIdleTime, c.want.ConnMaxIdleTime, c.want.ConnMaxIdleTime != 0},
				{"dial timeout", got.DialTimeout, c.want.DialTimeout, c.want.DialTimeout != 0},
				{"read timeout", got.ReadTimeout, c.want.ReadTimeout, c.want.ReadTimeout != 0},
				{"write timeout", got.WriteTimeout, c.want.WriteTimeout, c.want.WriteTimeout != 0},
				{"TLS name", tlsName(got.TLSConfig), c.tls, true},
				{"retries", got.MaxRetries, 0, true},
				{"dial attempts", got.DialerRetries, 1, true},
				{"contexts", got.ContextTimeoutEnabled, true, true},
				{"maintenance", got.MaintNotificationsConfig.Mode, maintnotifications.ModeDisabled, true},
			} {
				if opt.set {
					same(t, opt.name, opt.got, opt.want)
				}
			}
		})
	}
}

func tlsName(c *tls.Config) string {
	switch {
	case c == nil:
		return ""
	case c.ServerName == "":
		return "-"
	default:
		return c.ServerName
	}
}

func TestNewClientKinds(t *testing.T) {
	for _, c := range []struct {
		name    string
		o       ClientOptions
		cluster bool
	}{
		{"sentinel", ClientOptions{Addrs: []string{"a:1", "b:2"}, SentinelMaster: "m"}, false},
		{"one node", ClientOptions{Addrs: []string{"a:1"}}, false},
		{"several nodes", ClientOptions{Addrs: []string{"a:1", "b:2"}}, true},
		{"cluster through one", ClientOptions{Host: "a", Cluster: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := NewClient(c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, cluster := client.(*goredis.ClusterClient)
			same(t, "cluster", cluster, c.cluster)
		})
	}
}

func TestNewClientRefuses(t *testing.T) {
	for _, o := range []ClientOptions{
		{URL: "redis://:s3cret@host:port"},
		{URL: "http://:s3cret@host"},
		{URL: "redis://:s3cret@host/one"},
		{URL: "redis://:s3cret@host?unknown=1"},
		{URL: "redis://:s3cret@ho st"},
		{Cluster: true, SentinelMaster: "m"},
		{Cluster: true, DB: 1},
	} {
		client, err := NewClient(o)
		if err == nil {
			client.Close()
			t.Errorf("%+v was accepted", o)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error names the password: %v", err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	ring := goredis.NewRing(&goredis.RingOptions{})
	defer ring.Close()
	if _, err := New(ring, Options{}); err == nil {
		t.Error("a Ring was accepted")
	}
}

func TestSetLogger(t *testing.T) {
	var out bytes.Buffer
	handler := func(l slog.Level) *slog.Logger {
		return slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: l}))
	}
	defer SetLogger(nil)
	client, err := NewClient(ClientOptions{Host: "/nowhere/redis.sock"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	SetLogger(handler(slog.LevelInfo))
	if err := client.Ping(context.Background()).Err(); ClassName(err) != "conn_refused" {
		t.Errorf("%v is %q", err, ClassName(err))
	}
	same(t, "log at info", out.String(), "")
	SetLogger(handler(slog.LevelDebug))
	logger{handler(slog.LevelDebug)}.Printf(context.Background(), "dial %s", "x")
	if !strings.Contains(out.String(), `line="dial x"`) {
		t.Errorf("log at debug: %s", out.String())
	}
}
