package worker

import (
	"slices"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// TestWorkersAreToldWhereRedisIs: the variables of an address can be read by the
// clients of Graflow and of supervised workers, whatever form the address had.
func TestWorkersAreToldWhereRedisIs(t *testing.T) {
	for _, c := range []struct {
		name            string
		redis           config.Redis
		url, host, port string
		address         string // as shown in messages
	}{
		{"a name", config.Redis{Host: "redis", Port: 6380, DB: 2}, "redis://redis:6380/2", "redis", "6380", "redis://redis:6380/2"},
		{"IPv6", config.Redis{Host: "::1", Port: 6379}, "redis://[::1]:6379/0", "::1", "6379", "redis://[::1]:6379/0"},
		{"IPv6 in brackets", config.Redis{Host: "[::1]", Port: 6379}, "redis://[::1]:6379/0", "::1", "6379", "redis://[::1]:6379/0"},
		{"IPv6 with a zone", config.Redis{Host: "fe80::1%eth0", Port: 6379}, "redis://[fe80::1%25eth0]:6379/0", "fe80::1%eth0", "6379", "redis://[fe80::1%25eth0]:6379/0"},
		{"IPv6 in a URL", config.Redis{URL: "redis://[::1]/3"}, "redis://[::1]/3", "::1", "6379", "redis://[::1]/3"},
		{"a login", config.Redis{Host: "[::1]", Port: 1, Username: "u", Password: "p@"}, "redis://u:p%40@[::1]:1/0", "::1", "1", "redis://[::1]:1/0"},
		{"TLS", config.Redis{Host: "[::1]", Port: 1, TLS: true}, "rediss://[::1]:1/0", "::1", "1", "redis://[::1]:1/0"},
		{"a socket", config.Redis{Host: "/run/r.sock", Port: 6379, DB: 2}, "unix:///run/r.sock?db=2", "/run/r.sock", "6379", "unix:///run/r.sock?db=2"},
		{"a socket with a password", config.Redis{Host: "/run/r.sock", Password: "p"}, "unix://:p@/run/r.sock", "/run/r.sock", "0", "unix:///run/r.sock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, err := Environment(c.redis, "p", c.redis.Password)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"REDIS_URL=" + c.url, "REDIS_HOST=" + c.host, "REDIS_PORT=" + c.port} {
				if !slices.Contains(env, want) {
					t.Errorf("no %s in %q", want, env)
				}
			}
			if got := c.redis.Address(); got != c.address {
				t.Errorf("for people: %s, want %s", got, c.address)
			}
		})
	}
}

// TestNoWorkerIsGivenADifferentPassword: a password that is not in a file is not
// refreshed.
func TestNoWorkerIsGivenADifferentPassword(t *testing.T) {
	if EnvironmentRefresher(config.Redis{Password: "one"}, "p", "one") != nil {
		t.Error("the environment is made anew")
	}
}
