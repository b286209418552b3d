package config

import (
	"slices"
	"strings"
)

// secrets are kept from workers: whoever runs the tasks' code need not be able
// to read the credentials of the queue. (A Graflow worker and a supervised one
// need Redis itself and are given them by app.)
var secrets = []string{
	"REDIS_URL", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_TLS_KEY_FILE",
	"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
}

// coordinates are what app sets for a worker that speaks to Redis itself. Those of our own
// environment go first, so that one which app leaves out (REDIS_TLS, say, where
// a flag names another Redis) cannot be left standing.
var coordinates = []string{
	"REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_KEY_PREFIX", "REDIS_ADDRS", "REDIS_SENTINEL_MASTER",
	"REDIS_TLS", "REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE", "REDIS_TLS_SERVER_NAME", "REDIS_TLS_INSECURE",
}

// childEnv is the environment of the workers: ours without SIDECAR_ names and
// without secrets, except those that are allowed by name.
func childEnv(environ []string, speaksToRedis bool, allowed []string) []string {
	out := make([]string, 0, len(environ))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		ours := strings.HasPrefix(name, prefix) || slices.Contains(secrets, name) ||
			(speaksToRedis && slices.Contains(coordinates, name))
		if !ours || slices.Contains(allowed, name) {
			out = append(out, entry)
		}
	}
	return out
}
