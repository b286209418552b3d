package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestWhereRedisIs(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want func(*Redis)
	}{
		{"host and port", []string{"REDIS_HOST=r", "REDIS_PORT=7", "REDIS_DB=2"}, nil, func(r *Redis) {
			r.Host, r.Port, r.DB = "r", 7, 2
		}},
		{"IPv6", []string{"REDIS_HOST=::1"}, nil, func(r *Redis) { r.Host = "::1" }},
		{"IPv6 in brackets", []string{"REDIS_HOST=[fe80::1%eth0]"}, nil, func(r *Redis) { r.Host = "fe80::1%eth0" }},
		{"IPv6 in brackets by flag", nil, []string{"--redis-host", "[::1]"}, func(r *Redis) { r.Host = "::1" }},
		{"socket", []string{"REDIS_HOST=/run/r.sock"}, nil, func(r *Redis) { r.Host = "/run/r.sock" }},
		{"service link", []string{"REDIS_PORT=tcp://10.0.0.1:6380"}, nil, func(r *Redis) {
			r.Host, r.Port = "10.0.0.1", 6380
		}},
		{"service link, IPv6", []string{"REDIS_PORT=tcp://[fd00::1]:6380"}, nil, func(r *Redis) {
			r.Host, r.Port = "fd00::1", 6380
		}},
		{"service link and a host", []string{"REDIS_PORT=tcp://10.0.0.1:6380", "REDIS_HOST=redis"}, nil, func(r *Redis) {
			r.Host, r.Port = "redis", 6380
		}},
		{"URL", []string{"REDIS_URL=redis://u:p%40@h:7/3"}, nil, func(r *Redis) {
			r.URL, r.Host, r.Port, r.DB = "redis://u:p%40@h:7/3", "h", 7, 3
		}},
		{"URL over host, and its database over REDIS_DB", []string{"REDIS_URL=redis://h/3", "REDIS_HOST=x", "REDIS_PORT=1", "REDIS_DB=4"}, nil, func(r *Redis) {
			r.URL, r.Host, r.DB = "redis://h/3", "h", 3
		}},
		{"URL without a database", []string{"REDIS_URL=redis://h", "REDIS_DB=4"}, nil, func(r *Redis) {
			r.URL, r.Host, r.DB = "redis://h/4", "h", 4
		}},
		{"URL with the database as a parameter", []string{"REDIS_URL=redis://h?db=5&read_timeout=3s"}, nil, func(r *Redis) {
			r.URL, r.Host, r.DB = "redis://h/5?read_timeout=3s", "h", 5
		}},
		{"the database flag over the URL", []string{"REDIS_URL=redis://h/3"}, []string{"--redis-db", "6"}, func(r *Redis) {
			r.URL, r.Host, r.DB = "redis://h/6", "h", 6
		}},
		{"TLS by URL", []string{"REDIS_URL=rediss://h", "REDIS_TLS_SERVER_NAME=n"}, nil, func(r *Redis) {
			r.URL, r.Host, r.TLS, r.TLSServerName = "rediss://h/0", "h", true, "n"
		}},
		{"socket by URL", []string{"REDIS_URL=unix:///run/r.sock?db=2"}, nil, func(r *Redis) {
			r.URL, r.Host, r.DB = "unix:///run/r.sock?db=2", "/run/r.sock", 2
		}},
		{"a flag sets the environment's URL aside", []string{"REDIS_URL=redis://h/3"}, []string{"--redis-host", "f"}, func(r *Redis) {
			r.Host = "f"
		}},
		{"and its sentinels", []string{"REDIS_ADDRS=a:1", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_PASSWORD=p"}, []string{"--redis-url", "redis://f"}, func(r *Redis) {
			r.URL, r.Host = "redis://f/0", "f"
		}},
		{"credentials", []string{"REDIS_USERNAME=u", "REDIS_PASSWORD= p,w "}, nil, func(r *Redis) {
			r.Username, r.Password = "u", " p,w "
		}},
		{"password file", []string{"REDIS_PASSWORD_FILE=/run/secrets/p"}, nil, func(r *Redis) { r.PasswordFile = "/run/secrets/p" }},
		{"sentinel", []string{"REDIS_ADDRS=a:1, b:2,", "REDIS_SENTINEL_MASTER=m"}, nil, func(r *Redis) {
			r.Addrs, r.SentinelMaster = []string{"a:1", "b:2"}, "m"
		}},
		{"sentinels with a login", []string{"REDIS_ADDRS=a:1", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_USERNAME=u", "REDIS_SENTINEL_PASSWORD=p", "REDIS_DB=2"}, nil, func(r *Redis) {
			r.Addrs, r.SentinelMaster, r.SentinelUsername, r.SentinelPassword, r.DB = []string{"a:1"}, "m", "u", "p", 2
		}},
		{"cluster", []string{"REDIS_ADDRS=[::1]:7000"}, nil, func(r *Redis) {
			r.Addrs, r.Cluster = []string{"[::1]:7000"}, true
		}},
		{"embedded", []string{"REDIS_URL=embedded", "REDIS_HOST=x"}, nil, func(r *Redis) {
			r.Embedded, r.Host = true, "x"
		}},
		{"embedded on a port", []string{"REDIS_PORT=7000"}, []string{"--redis-url=Embedded"}, func(r *Redis) {
			r.Embedded, r.EmbeddedPort, r.Port = true, 7000, 7000
		}},
		{"TLS files", []string{"REDIS_TLS=yes", "REDIS_TLS_CA_FILE=ca", "REDIS_TLS_CERT_FILE=c", "REDIS_TLS_KEY_FILE=k", "REDIS_TLS_INSECURE=0"}, nil, func(r *Redis) {
			r.TLS, r.TLSCAFile, r.TLSCertFile, r.TLSKeyFile = true, "ca", "c", "k"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustLoad(t, c.env, append(c.args, worker...)...)
			want := Default().Redis
			c.want(&want)
			if !reflect.DeepEqual(s.App.Redis, want) {
				t.Errorf("got\n%+v\nwant\n%+v", s.App.Redis, want)
			}
		})
	}
}

func TestRedisErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"port", []string{"REDIS_PORT=66000"}, nil, `REDIS_PORT is "66000", and must be a port from 1 to 65535`},
		{"service link without a port", []string{"REDIS_PORT=tcp://10.0.0.1"}, nil, "a port from 1"},
		{"URL as the host", []string{"REDIS_HOST=redis://h"}, nil, "REDIS_HOST is"},
		{"database", []string{"REDIS_DB=-1"}, nil, "REDIS_DB is"},
		{"scheme", []string{"REDIS_URL=http://u:hunter2@h"}, nil, "REDIS_URL has a value that cannot be used, and must be redis://"},
		{"not a URL", []string{"REDIS_URL=redis://u:hunter2%zz@h"}, nil, "cannot be used"},
		{"URL with a bad port", []string{"REDIS_URL=redis://:hunter2@h:99999"}, nil, "REDIS_URL has a port that is not"},
		{"URL with no host", []string{"REDIS_URL=redis://:hunter2@"}, nil, "names no host"},
		{"URL with a bad database", []string{"REDIS_URL=redis://:hunter2@h/x"}, nil, "no database number"},
		{"password with a slash", []string{"REDIS_URL=redis://u:123/hunter2@h"}, nil, "no database number"},
		{"unix with no path", []string{"REDIS_URL=unix://"}, nil, "names no socket"},
		{"by flag", nil, []string{"--redis-url", "redis:///hunter2"}, "--redis-url names no host"},
		{"password twice", []string{"REDIS_PASSWORD=hunter2", "REDIS_PASSWORD_FILE=f"}, nil, "REDIS_PASSWORD and REDIS_PASSWORD_FILE exclude"},
		{"password in the URL too", []string{"REDIS_URL=redis://:hunter2@h", "REDIS_PASSWORD=hunter2"}, nil, "REDIS_URL and REDIS_PASSWORD exclude"},
		{"password with a line break", []string{"REDIS_PASSWORD=hunter2\n"}, nil, "REDIS_PASSWORD has a value that cannot be used"},
		{"URL and addresses", []string{"REDIS_URL=redis://h", "REDIS_ADDRS=a:1"}, nil, "REDIS_URL and REDIS_ADDRS exclude"},
		{"address without a port", []string{"REDIS_ADDRS=a:1,b"}, nil, "host:port, separated by commas"},
		{"sentinel without addresses", []string{"REDIS_SENTINEL_MASTER=m"}, nil, "needs the sentinels in REDIS_ADDRS"},
		{"cluster with a database", []string{"REDIS_ADDRS=a:1", "REDIS_DB=1"}, nil, "database 0 only"},
		{"embedded and TLS", []string{"REDIS_URL=embedded", "REDIS_TLS=1"}, nil, "REDIS_TLS does not go with the embedded Redis"},
		{"embedded and a password", []string{"REDIS_URL=embedded", "REDIS_PASSWORD=hunter2"}, nil, "REDIS_PASSWORD does not go"},
		{"certificate without a key", []string{"REDIS_TLS=1", "REDIS_TLS_CERT_FILE=c"}, nil, "go together"},
		{"files without TLS", []string{"REDIS_TLS_CA_FILE=c"}, nil, "TLS is not asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.env, append(c.args, worker...)...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v; want it to hold %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
	if _, err := load(t, []string{"REDIS_ADDRS=a:1"}, "--graflow"); err == nil || !strings.Contains(err.Error(), "Graflow has no client") {
		t.Errorf("Graflow in a Cluster: %v", err)
	}
}
