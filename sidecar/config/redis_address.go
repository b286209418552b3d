package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
)

// At returns the configuration for a local Redis that we started ourselves.
func (r Redis) At(url string) Redis {
	r.Embedded, r.URL = false, url
	r.Username, r.Password, r.PasswordFile, r.TLS = "", "", "", false
	return r
}

// Address says where Redis is, for people: no credentials.
func (r Redis) Address() string {
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
		return r.URLOfParts().String()
	}
}

// BareHost is Host without the brackets that an IPv6 address may stand in.
func (r Redis) BareHost() string {
	if bare, ok := strings.CutPrefix(r.Host, "["); ok {
		return strings.TrimSuffix(bare, "]")
	}
	return r.Host
}

// URLOfParts is the URL of Host, Port and DB, without credentials.
func (r Redis) URLOfParts() *url.URL {
	if strings.HasPrefix(r.Host, "/") {
		u := &url.URL{Scheme: "unix", Path: r.Host}
		if r.DB != 0 {
			u.RawQuery = "db=" + strconv.Itoa(r.DB)
		}
		return u
	}
	return &url.URL{Scheme: "redis", Host: net.JoinHostPort(r.BareHost(), strconv.Itoa(r.Port)), Path: "/" + strconv.Itoa(r.DB)}
}

// ReadPassword gives the password, from its file where one is named.
func (r Redis) ReadPassword() (string, error) {
	if r.PasswordFile == "" {
		return r.Password, nil
	}
	b, err := settingfile.Read(r.PasswordFile)
	if err != nil {
		return "", &Error{Err: fmt.Errorf("REDIS_PASSWORD_FILE cannot be read: %w", err)}
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// PasswordRefresher gives the password anew for each connection. It keeps the last one where
// the file is empty or cannot be read, as while it is replaced: a login without a password
// is refused, which would end the sidecar.
func (r Redis) PasswordRefresher(last string) func() (string, error) {
	var mu sync.Mutex
	return func() (string, error) {
		password, err := r.ReadPassword()
		mu.Lock()
		defer mu.Unlock()
		if err == nil && password != "" {
			last = password
		}
		return last, nil
	}
}
