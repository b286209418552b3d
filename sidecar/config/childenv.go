package config

import (
	"os"
	"slices"
	"strings"
)

// redisNames are the names that begin with REDIS_ and that Graflow or the sidecar
// defines. A worker that speaks to Redis itself gets them from app, and none of our own
// environment: one which app leaves out (REDIS_TLS, say, where a flag names another
// Redis) must not be left standing. All other names are its user's own.
var redisNames = []string{
	"REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_KEY_PREFIX", "REDIS_ADDRS", "REDIS_SENTINEL_MASTER",
	"REDIS_TLS", "REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE", "REDIS_TLS_SERVER_NAME", "REDIS_TLS_INSECURE",
	"REDIS_URL", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_PASSWORD",
}

// secrets are kept from workers that do not speak to Redis: the code of a task need
// not be able to read the credentials of the queue.
var secrets = []string{
	"REDIS_URL", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_TLS_KEY_FILE",
	"REDISCLI_AUTH", "VALKEYCLI_AUTH",
	"REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_PASSWORD",
}

// suspicious are words in other names that begin with REDIS_: those of a hosting
// provider (REDIS_TLS_URL, REDIS_ACCESS_TOKEN) may hold credentials of the queue. They
// are kept from workers that do not speak to Redis.
var suspicious = []string{"PASS", "SECRET", "TOKEN", "USERNAME", "AUTH", "URL", "KEY_FILE"}

// collectorSecrets are the credentials for traces, which are the sidecar's own.
var collectorSecrets = []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}

// roles are what a service manager says to the process that it started, and to no
// other: a worker that says READY=1 or takes a socket speaks for us.
var roles = []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"}

// withheld reports whether a variable is kept from workers.
func withheld(name string, speaksToRedis bool) bool {
	switch {
	case strings.HasPrefix(name, prefix), slices.Contains(roles, name), slices.Contains(collectorSecrets, name):
		return true
	case strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_"):
		return strings.HasSuffix(name, "HEADERS") || strings.HasSuffix(name, "CLIENT_KEY")
	case speaksToRedis:
		return slices.Contains(redisNames, name)
	case slices.Contains(secrets, name):
		return true
	case strings.HasPrefix(name, "REDIS_"):
		return slices.ContainsFunc(suspicious, func(word string) bool { return strings.Contains(name, word) })
	}
	return false
}

// ChildEnv is the environment of the workers: ours without what they do not get,
// except what is allowed by name.
func ChildEnv(environ []string, speaksToRedis bool, allowed []string) []string {
	out := make([]string, 0, len(environ))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !withheld(name, speaksToRedis) || slices.Contains(allowed, name) {
			out = append(out, entry)
		}
	}
	return out
}

// Withheld are the names of our environment that some worker does not get, sorted.
// Those that the sidecar itself sets for a worker are none of them. With
// SIDECAR_WORKER_SOCKET there are none: workers have the environment of sidecar connect.
func (l *Loader) Withheld() []string {
	s, _ := l.read() // what is wrong with the settings Values tells
	w := s.App.Worker
	if w.Socket.Path != "" {
		return nil
	}
	allowed := splitList(l.vars.own.ChildEnv.text())
	speak, others := w.Graflow || s.App.Mode == ModeSupervise, !w.Graflow && s.App.Mode != ModeSupervise
	if len(s.App.Kinds) > 0 {
		isGraflow := func(k Kind) bool { return k.Worker.Graflow }
		speak = slices.ContainsFunc(s.App.Kinds, isGraflow)
		others = slices.ContainsFunc(s.App.Kinds, func(k Kind) bool { return !isGraflow(k) })
	}
	var names []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		lacks := speak && withheld(name, true) && !slices.Contains(redisNames, name) || others && withheld(name, false)
		if lacks && !slices.Contains(allowed, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
