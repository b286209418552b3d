package redis

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
)

// OptionsOf returns the client options of a configuration. Its error is a *config.Error.
func OptionsOf(r config.Redis) (ClientOptions, error) {
	password, err := r.ReadPassword()
	if err != nil {
		return ClientOptions{}, err
	}
	o := ClientOptions{
		URL: r.URL, Addrs: r.Addrs, Host: r.Host, Port: r.Port, DB: r.DB,
		SentinelMaster: r.SentinelMaster, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword,
		Cluster:  r.Cluster,
		Username: r.Username, Password: password, ClientName: "graflow-sidecar",
		PoolSize: r.PoolSize, MinIdleConns: r.MinIdleConns, ConnMaxIdleTime: r.ConnMaxIdleTime,
		DialTimeout: r.DialTimeout, ReadTimeout: r.ReadTimeout, WriteTimeout: r.WriteTimeout,
	}
	if r.PasswordFile != "" {
		o.RefreshPassword = r.PasswordRefresher(password)
	}
	if r.TLS || strings.HasPrefix(r.URL, "rediss:") {
		if o.TLS, err = tlsConfig(r); err != nil {
			return ClientOptions{}, &config.Error{Err: err}
		}
	}
	return o, nil
}

func tlsConfig(r config.Redis) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.TLSServerName, InsecureSkipVerify: r.TLSInsecure}
	if c.ServerName == "" && len(r.Addrs) == 0 { // several servers have several names
		c.ServerName = hostname(r)
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
		// Loaded for each connection: certificates are replaced before they expire.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// hostname returns the name that the certificate of the server is checked against, unless
// one is configured.
func hostname(r config.Redis) string {
	if u, err := url.Parse(r.URL); r.URL != "" && err == nil {
		return u.Hostname()
	}
	return r.BareHost()
}

// RetryPause is the pause between attempts while Redis is unreachable or refuses
// temporarily.
func RetryPause(r config.Redis) backoff.Policy {
	return backoff.Policy{Min: r.RetryBase, Max: r.RetryMax}
}
