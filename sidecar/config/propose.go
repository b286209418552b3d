package config

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/graflow/graflow-sidecar/sidecar/internal/spelling"
)

// synonyms are the names that other workers, brokers' clients and service managers have
// for settings of the sidecar, in the form of plainName.
var synonyms = map[string]string{
	"CONCURRENCY": "MAX_CONCURRENT_TASKS", "MAX_CONCURRENCY": "MAX_CONCURRENT_TASKS", "WORKER_CONCURRENCY": "MAX_CONCURRENT_TASKS",
	"CONCURRENT_TASKS": "MAX_CONCURRENT_TASKS", "MAX_TASKS": "MAX_CONCURRENT_TASKS", "PARALLELISM": "MAX_CONCURRENT_TASKS",
	"PARALLEL": "MAX_CONCURRENT_TASKS", "THREADS": "MAX_CONCURRENT_TASKS", "SLOTS": "MAX_CONCURRENT_TASKS",
	"NUM_WORKERS": "MAX_CONCURRENT_TASKS", "MAX_WORKERS": "MAX_CONCURRENT_TASKS", "WORKER_COUNT": "MAX_CONCURRENT_TASKS",
	"PROCESSES": "MAX_CONCURRENT_TASKS", "POOL_SIZE": "MAX_CONCURRENT_TASKS", "JOBS": "MAX_CONCURRENT_TASKS",
	"REDIS": "REDIS_URL", "REDIS_URI": "REDIS_URL", "REDIS_ADDR": "REDIS_URL", "REDIS_ADDRESS": "REDIS_URL", "REDIS_SERVER": "REDIS_URL",
	"BROKER": "REDIS_URL", "BROKER_URL": "REDIS_URL", "URL": "REDIS_URL",
	"REDIS_USER": "REDIS_USERNAME", "REDIS_DATABASE": "REDIS_DB", "DB": "REDIS_DB", "REDIS_PREFIX": "REDIS_KEY_PREFIX",
	"PREFIX": "REDIS_KEY_PREFIX", "KEY_PREFIX": "REDIS_KEY_PREFIX", "NAMESPACE": "REDIS_KEY_PREFIX",
	"PORT": "SIDECAR_HTTP_ADDR", "HTTP_PORT": "SIDECAR_HTTP_ADDR", "LISTEN": "SIDECAR_HTTP_ADDR", "ADDR": "SIDECAR_HTTP_ADDR",
	"ADDRESS": "SIDECAR_HTTP_ADDR", "METRICS_ADDR": "SIDECAR_HTTP_ADDR", "METRICS_PORT": "SIDECAR_HTTP_ADDR", "HEALTH_PORT": "SIDECAR_HTTP_ADDR",
	"VERBOSE": "LOG_LEVEL", "DEBUG": "LOG_LEVEL", "VERBOSITY": "LOG_LEVEL",
	"TIMEOUT": "SIDECAR_TASK_TIMEOUT", "JOB_TIMEOUT": "SIDECAR_TASK_TIMEOUT", "TIME_LIMIT": "SIDECAR_TASK_TIMEOUT",
	"RETRIES": "SIDECAR_MAX_ATTEMPTS", "MAX_RETRIES": "SIDECAR_MAX_ATTEMPTS", "ATTEMPTS": "SIDECAR_MAX_ATTEMPTS", "MAX_DELIVERIES": "SIDECAR_MAX_ATTEMPTS",
	"GRACE_PERIOD": "SIDECAR_SHUTDOWN_TIMEOUT", "STOP_TIMEOUT": "SIDECAR_SHUTDOWN_TIMEOUT", "DRAIN_TIMEOUT": "SIDECAR_SHUTDOWN_TIMEOUT",
	"TERMINATION_GRACE_PERIOD": "SIDECAR_SHUTDOWN_TIMEOUT", "SHUTDOWN_GRACE": "SIDECAR_SHUTDOWN_TIMEOUT",
	"CWD": "SIDECAR_WORKER_DIR", "WORKDIR": "SIDECAR_WORKER_DIR", "WORKING_DIR": "SIDECAR_WORKER_DIR", "DIR": "SIDECAR_WORKER_DIR",
	"NAME": "WORKER_ID", "TOKEN": "SIDECAR_ADMIN_TOKEN", "SOCKET": "SIDECAR_WORKER_SOCKET", "EXEC": "SIDECAR_MODE",
	"MAX_TASKS_PER_WORKER": "SIDECAR_MAX_TASKS_PER_CHILD", "MAX_MEMORY": "SIDECAR_MAX_CHILD_RSS", "MAX_MEMORY_PER_CHILD": "SIDECAR_MAX_CHILD_RSS",
}

// plainName is the name of a variable or of a flag without what tells them apart:
// SIDECAR_TASK_TIMEOUT and --task-timeout are TASK_TIMEOUT.
func plainName(name string) string {
	name = strings.ToUpper(strings.ReplaceAll(strings.TrimLeft(name, "-"), "-", "_"))
	return strings.TrimPrefix(name, prefix)
}

// propose returns the setting that an unknown name of a variable or of a flag stands
// for: one that differs in its prefix only, one that other programs call so, or one that
// is spelled almost alike. Otherwise it returns nil.
func (vs *variables) propose(name string) *value {
	plain := plainName(name)
	byName := make(map[string]*value)
	var names []string
	for _, v := range vs.all {
		for _, n := range []string{v.env, v.flag} {
			if n = plainName(n); n != "" && byName[n] == nil {
				byName[n] = v
				names = append(names, n)
			}
		}
	}
	if v := byName[plain]; v != nil {
		return v
	}
	if v := byName[plainName(synonyms[plain])]; v != nil {
		return v
	}
	if near, ok := spelling.Near(plain, names); ok {
		return byName[near]
	}
	return nil
}

// Propose returns the setting that an unknown name of a flag or of a variable stands for,
// as its variable and its flag; flag is empty where the setting has none, and both are
// where there is no such setting. It may be called concurrently.
func Propose(name string) (env, flag string) {
	if v := newVariables().propose(name); v != nil {
		return v.env, v.flag
	}
	return "", ""
}

// FlagNames returns the names of the flags of a command that are not hidden.
func FlagNames(fs *pflag.FlagSet) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}
