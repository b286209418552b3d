package app

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
)

// at returns the configuration for a local Redis that we started ourselves.
func (r RedisConfig) at(url string) RedisConfig {
	r.Embedded, r.URL = false, url
	r.Username, r.Password, r.PasswordFile, r.TLS = "", "", "", false
	return r
}

// Address says where Redis is, for people: no credentials.
func (r RedisConfig) Address() string {
	switch {
	case r.Embedded:
		return "embedded"
	case r.SentinelMaster != "":
		return fmt.Sprintf("sentinel://%s/%s/%d", strings.Join(r.Addrs, ","), r.SentinelMaster, r.DB)
	case len(r.Addrs) > 0:
		return strings.Join(r.Addrs, ",")
	case r.URL != "":
		u, err := url.Parse(r.URL)
		if err != nil {
			return "invalid URL"
		}
		u.User = nil
		return u.String()
	default:
		return r.partsURL().String()
	}
}

// host is Host without the brackets that an IPv6 address may stand in.
func (r RedisConfig) host() string {
	if bare, ok := strings.CutPrefix(r.Host, "["); ok {
		return strings.TrimSuffix(bare, "]")
	}
	return r.Host
}

// partsURL is the URL of Host, Port and DB, without credentials.
func (r RedisConfig) partsURL() *url.URL {
	if strings.HasPrefix(r.Host, "/") {
		u := &url.URL{Scheme: "unix", Path: r.Host}
		if r.DB != 0 {
			u.RawQuery = "db=" + strconv.Itoa(r.DB)
		}
		return u
	}
	return &url.URL{Scheme: "redis", Host: net.JoinHostPort(r.host(), strconv.Itoa(r.Port)), Path: "/" + strconv.Itoa(r.DB)}
}

// pause is between attempts while Redis is away or refuses for the moment.
func (r RedisConfig) pause() backoff.Policy {
	return backoff.Policy{Min: r.RetryBase, Max: r.RetryMax}
}

// password gives the password, from its file where one is named.
func (r RedisConfig) password() (string, error) {
	if r.PasswordFile == "" {
		return r.Password, nil
	}
	b, err := settingfile.Read(r.PasswordFile)
	if err != nil {
		return "", &ConfigError{Err: fmt.Errorf("REDIS_PASSWORD_FILE cannot be read: %w", err)}
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// renewedPassword gives the password anew for each connection. It keeps the last one where
// the file is empty or cannot be read, as while it is replaced: a login without a password
// is refused, which would end the sidecar.
func (r RedisConfig) renewedPassword(last string) func() (string, error) {
	var mu sync.Mutex
	return func() (string, error) {
		password, err := r.password()
		mu.Lock()
		defer mu.Unlock()
		if err == nil && password != "" {
			last = password
		}
		return last, nil
	}
}

// clientOptions translates for the store.
func (r RedisConfig) clientOptions() (redis.ClientOptions, error) {
	password, err := r.password()
	if err != nil {
		return redis.ClientOptions{}, err
	}
	o := redis.ClientOptions{
		URL: r.URL, Addrs: r.Addrs, Host: r.Host, Port: r.Port, DB: r.DB,
		SentinelMaster: r.SentinelMaster, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword,
		Cluster:  r.Cluster,
		Username: r.Username, Password: password, ClientName: "graflow-sidecar",
		PoolSize: r.PoolSize, MinIdleConns: r.MinIdleConns, ConnMaxIdleTime: r.ConnMaxIdleTime,
		DialTimeout: r.DialTimeout, ReadTimeout: r.ReadTimeout, WriteTimeout: r.WriteTimeout,
	}
	if r.PasswordFile != "" {
		o.Renewed = r.renewedPassword(password)
	}
	if r.TLS || strings.HasPrefix(r.URL, "rediss:") {
		if o.TLS, err = r.tlsConfig(); err != nil {
			return redis.ClientOptions{}, &ConfigError{Err: err}
		}
	}
	return o, nil
}

func (r RedisConfig) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.TLSServerName, InsecureSkipVerify: r.TLSInsecure}
	if c.ServerName == "" && len(r.Addrs) == 0 { // of several, each has its own name
		c.ServerName = r.hostname()
	}
	if r.TLSCAFile != "" {
		pem, err := settingfile.Read(r.TLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("REDIS_TLS_CA_FILE cannot be read: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("REDIS_TLS_CA_FILE %s holds no certificate", r.TLSCAFile)
		}
	}
	if r.TLSCertFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := settingfile.KeyPair(r.TLSCertFile, r.TLSKeyFile)
			if err != nil {
				return nil, fmt.Errorf("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE cannot be used: %w", err)
			}
			return &cert, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		// Anew for each connection: certificates are replaced before they run out.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// hostname is what a certificate is checked against unless it is given.
func (r RedisConfig) hostname() string {
	if u, err := url.Parse(r.URL); r.URL != "" && err == nil {
		return u.Hostname()
	}
	return r.host()
}

// place is where Redis is in all its forms, credentials included.
type place struct {
	url                *url.URL
	host, port, db     string
	username, password string
}

func (r RedisConfig) place(password string) (place, error) {
	p := place{host: r.host(), port: strconv.Itoa(r.Port), db: strconv.Itoa(r.DB), username: r.Username, password: password}
	p.url = r.partsURL()
	if r.URL != "" {
		u, err := url.Parse(r.URL)
		if err != nil {
			return place{}, &ConfigError{Err: fmt.Errorf("REDIS_URL is not a URL")}
		}
		p.url = u
		if p.url.Scheme != "unix" {
			p.host, p.port = p.url.Hostname(), cmp.Or(p.url.Port(), "6379")
			p.db = cmp.Or(strings.Trim(p.url.Path, "/"), "0")
		}
	}
	if r.TLS && p.url.Scheme == "redis" {
		p.url.Scheme = "rediss"
	}
	if p.url.User != nil {
		p.username = cmp.Or(p.username, p.url.User.Username())
		if password, ok := p.url.User.Password(); ok && p.password == "" {
			p.password = password
		}
	}
	if p.password != "" || p.username != "" {
		p.url.User = url.UserPassword(p.username, p.password)
	}
	return p, nil
}

// ConnectURL is where Redis is, credentials and all, for a client of the same
// Redis; not for the log. Of several addresses it knows none.
func (a *App) ConnectURL() string {
	password, err := a.cfg.Redis.password()
	if err != nil {
		return "" // it was readable when we connected
	}
	p, err := a.cfg.Redis.place(password)
	if err != nil {
		return ""
	}
	return p.url.String()
}

// environment gives a Graflow child what it needs to find the same Redis. The
// URL is complete; the parts are there for code that reads Graflow's own
// variables.
func (r RedisConfig) environment(prefix, password string) ([]string, error) {
	p, err := r.place(password)
	if err != nil {
		return nil, err
	}
	env := []string{
		"REDIS_URL=" + p.url.String(), "REDIS_HOST=" + p.host, "REDIS_PORT=" + p.port, "REDIS_DB=" + p.db,
		"REDIS_KEY_PREFIX=" + prefix,
		"REDIS_SOCKET_TIMEOUT=" + seconds(r.ReadTimeout),
		"REDIS_SOCKET_CONNECT_TIMEOUT=" + seconds(r.DialTimeout),
		"REDIS_HEALTH_CHECK_INTERVAL=" + seconds(r.HealthCheckInterval),
		"REDIS_MAX_CONNECTIONS=" + strconv.Itoa(r.WorkerPoolSize),
		"REDIS_RETRIES=" + strconv.Itoa(r.WorkerRetries),
	}
	for name, value := range map[string]string{
		"REDIS_USERNAME": p.username, "REDIS_PASSWORD": p.password,
		"REDIS_TLS_CA_FILE": r.TLSCAFile, "REDIS_TLS_CERT_FILE": r.TLSCertFile, "REDIS_TLS_KEY_FILE": r.TLSKeyFile,
		"REDIS_TLS_SERVER_NAME": r.TLSServerName,
	} {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	if r.PasswordFile != "" {
		// The workers' own folder may be another one.
		path, err := filepath.Abs(r.PasswordFile)
		if err != nil {
			return nil, &ConfigError{Err: fmt.Errorf("REDIS_PASSWORD_FILE: %w", err)}
		}
		env = append(env, "REDIS_PASSWORD_FILE="+path)
	}
	if p.url.Scheme == "rediss" {
		env = append(env, "REDIS_TLS=true")
	}
	if r.TLSInsecure {
		env = append(env, "REDIS_TLS_INSECURE=true")
	}
	return env, nil
}

// renewedEnvironment gives environment anew for each worker that is started, whose
// password may have been changed since password was read; nil where it cannot.
func (r RedisConfig) renewedEnvironment(prefix, password string) func() []string {
	if r.PasswordFile == "" {
		return nil
	}
	renewed := r.renewedPassword(password)
	return func() []string {
		password, _ := renewed() // where the file cannot be read it is the last one
		env, err := r.environment(prefix, password)
		if err != nil {
			return nil // the worker has what was right at the start
		}
		return env
	}
}
