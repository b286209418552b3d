package config

import (
	"slices"
	"strings"
)

// secrets are kept from workers: whoever runs the tasks' code need not be able
// to read the credentials of the queue. (A Graflow worker needs Redis itself
// and is given them by app.)
var secrets = []string{
	"REDIS_URL", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_TLS_KEY_FILE",
	"REDISCLI_AUTH", "VALKEYCLI_AUTH",
	"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
}

// suspicious are words in names that begin with REDIS_: whoever has Redis behind
// something that we do not know (REDIS_TLS_URL, REDIS_SENTINEL_PASSWORD) has its
// credentials there.
var suspicious = []string{"PASS", "SECRET", "TOKEN", "USERNAME", "AUTH", "URL", "KEY_FILE"}

// roles are what a service manager says to the process that it started, and to no
// other: a worker that says READY=1 or takes a socket speaks for us.
var roles = []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"}

// secret reports whether a variable is kept from workers.
func secret(name string) bool {
	switch {
	case strings.HasPrefix(name, prefix), slices.Contains(secrets, name), slices.Contains(roles, name):
		return true
	case strings.HasPrefix(name, "REDIS_"):
		return slices.ContainsFunc(suspicious, func(word string) bool { return strings.Contains(name, word) })
	case strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_"):
		return strings.HasSuffix(name, "HEADERS") || strings.HasSuffix(name, "CLIENT_KEY")
	}
	return false
}

// coordinates are what app sets for a Graflow worker. Those of our own
// environment go first, so that one which app leaves out (REDIS_TLS, say, where
// a flag names another Redis) cannot be left standing.
var coordinates = []string{
	"REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_KEY_PREFIX", "REDIS_ADDRS", "REDIS_SENTINEL_MASTER",
	"REDIS_TLS", "REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE", "REDIS_TLS_SERVER_NAME", "REDIS_TLS_INSECURE",
}

// ChildEnv is the environment of the workers: ours without SIDECAR_ names and
// without secrets, except those that are allowed by name.
func ChildEnv(environ []string, graflow bool, allowed []string) []string {
	out := make([]string, 0, len(environ))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		ours := graflow && slices.Contains(coordinates, name)
		if !secret(name) && !ours || slices.Contains(allowed, name) {
			out = append(out, entry)
		}
	}
	return out
}
