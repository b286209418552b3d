package worker

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// RedisAddress is the address of Redis in all its forms, with credentials.
type RedisAddress struct {
	URL                *url.URL
	Host, Port, DB     string
	Username, Password string
}

// RedisAddressOf returns the address of a configuration. The error is a *config.Error.
func RedisAddressOf(r config.Redis, password string) (RedisAddress, error) {
	p := RedisAddress{Host: r.BareHost(), Port: strconv.Itoa(r.Port), DB: strconv.Itoa(r.DB), Username: r.Username, Password: password}
	p.URL = r.URLOfParts()
	if r.URL != "" {
		u, err := url.Parse(r.URL)
		if err != nil {
			return RedisAddress{}, &config.Error{Err: fmt.Errorf("REDIS_URL is not a URL")}
		}
		p.URL = u
		if p.URL.Scheme != "unix" {
			p.Host, p.Port = p.URL.Hostname(), cmp.Or(p.URL.Port(), "6379")
			p.DB = cmp.Or(strings.Trim(p.URL.Path, "/"), "0")
		}
	}
	if r.TLS && p.URL.Scheme == "redis" {
		p.URL.Scheme = "rediss"
	}
	if p.URL.User != nil {
		p.Username = cmp.Or(p.Username, p.URL.User.Username())
		if password, ok := p.URL.User.Password(); ok && p.Password == "" {
			p.Password = password
		}
	}
	if p.Password != "" || p.Username != "" {
		p.URL.User = url.UserPassword(p.Username, p.Password)
	}
	return p, nil
}

// ConnectURL returns a URL with credentials for another client of the same Redis. It
// must not be logged. It is empty if there are several addresses.
func ConnectURL(r config.Redis) string {
	password, err := r.ReadPassword()
	if err != nil {
		return "" // unlikely: the sidecar has read it to connect
	}
	p, err := RedisAddressOf(r, password)
	if err != nil {
		return ""
	}
	return p.URL.String()
}

// Environment returns the variables with which a Graflow worker finds the same Redis:
// the complete URL, and its parts for code that reads Graflow's own variables.
func Environment(r config.Redis, prefix, password string) ([]string, error) {
	p, err := RedisAddressOf(r, password)
	if err != nil {
		return nil, err
	}
	env := []string{
		"REDIS_URL=" + p.URL.String(), "REDIS_HOST=" + p.Host, "REDIS_PORT=" + p.Port, "REDIS_DB=" + p.DB,
		"REDIS_KEY_PREFIX=" + prefix,
		"REDIS_SOCKET_TIMEOUT=" + Seconds(r.ReadTimeout),
		"REDIS_SOCKET_CONNECT_TIMEOUT=" + Seconds(r.DialTimeout),
		"REDIS_HEALTH_CHECK_INTERVAL=" + Seconds(r.HealthCheckInterval),
		"REDIS_MAX_CONNECTIONS=" + strconv.Itoa(r.WorkerPoolSize),
		"REDIS_RETRIES=" + strconv.Itoa(r.WorkerRetries),
	}
	for name, value := range map[string]string{
		"REDIS_USERNAME": p.Username, "REDIS_PASSWORD": p.Password,
		"REDIS_TLS_CA_FILE": r.TLSCAFile, "REDIS_TLS_CERT_FILE": r.TLSCertFile, "REDIS_TLS_KEY_FILE": r.TLSKeyFile,
		"REDIS_TLS_SERVER_NAME": r.TLSServerName,
	} {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	if r.PasswordFile != "" {
		// Workers may have another working directory.
		path, err := filepath.Abs(r.PasswordFile)
		if err != nil {
			return nil, &config.Error{Err: fmt.Errorf("REDIS_PASSWORD_FILE: %w", err)}
		}
		env = append(env, "REDIS_PASSWORD_FILE="+path)
	}
	if p.URL.Scheme == "rediss" {
		env = append(env, "REDIS_TLS=true")
	}
	if r.TLSInsecure {
		env = append(env, "REDIS_TLS_INSECURE=true")
	}
	return env, nil
}

// EnvironmentRefresher returns a function that returns Environment for each worker that
// is started, with a password that may have changed since password was read. It returns
// nil if the password cannot change.
func EnvironmentRefresher(r config.Redis, prefix, password string) func() []string {
	if r.PasswordFile == "" {
		return nil
	}
	refreshed := r.PasswordRefresher(password)
	return func() []string {
		password, _ := refreshed() // the last password if the file cannot be read
		env, err := Environment(r, prefix, password)
		if err != nil {
			return nil // the worker keeps the environment of the start
		}
		return env
	}
}

// Seconds formats a duration as Graflow reads it.
func Seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
