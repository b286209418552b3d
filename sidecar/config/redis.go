package config

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const embedded = "embedded"

// redis interprets everything that says where Redis is. Afterwards the parts
// and the URL, where there is one, agree.
func (vs *variables) redis(in *interpreter, r *Redis) {
	d := &vs.dropIn
	vs.flagsBeatEnvironment()

	in.port(&d.RedisPort, &d.RedisHost, r)
	in.host(&d.RedisHost, &r.Host)
	in.integer(&d.RedisDB, &r.DB, 0, maxDB)
	in.free(&d.RedisUsername, &r.Username, "a user name")
	in.free(&d.RedisPassword, &r.Password, "a text without line breaks")
	in.free(&d.RedisPasswordFile, &r.PasswordFile, "the path of a file")
	in.free(&d.RedisSentinel, &r.SentinelMaster, "the name of a master")
	in.free(&d.RedisSentinelUser, &r.SentinelUsername, "a user name")
	in.free(&d.RedisSentinelPassword, &r.SentinelPassword, "a text without line breaks")
	in.boolean(&d.RedisTLS, &r.TLS)
	in.free(&d.RedisTLSCAFile, &r.TLSCAFile, "the path of a file")
	in.free(&d.RedisTLSCertFile, &r.TLSCertFile, "the path of a file")
	in.free(&d.RedisTLSKeyFile, &r.TLSKeyFile, "the path of a file")
	in.free(&d.RedisTLSServer, &r.TLSServerName, "a host name")
	in.boolean(&d.RedisTLSInsecure, &r.TLSInsecure)
	in.addrs(&d.RedisAddrs, &r.Addrs)
	in.url(&d.RedisURL, &d.RedisDB, r)
	if r.Embedded && d.RedisPort.given() {
		r.EmbeddedPort = r.Port
	}
	r.Cluster = len(r.Addrs) > 0 && r.SentinelMaster == ""
}

// flagsBeatEnvironment: a flag that says where Redis is sets aside what the
// environment says about the same, whatever the variable.
func (vs *variables) flagsBeatEnvironment() {
	d := &vs.dropIn
	switch {
	case d.RedisURL.byFlag():
		d.dropAddrs()
	case d.RedisHost.byFlag() || d.RedisPort.byFlag():
		d.RedisURL.drop()
		d.dropAddrs()
	}
}

func (d *dropIn) dropAddrs() {
	for _, v := range []*value{&d.RedisAddrs, &d.RedisSentinel, &d.RedisSentinelUser, &d.RedisSentinelPassword} {
		v.drop()
	}
}

var serviceLink = regexp.MustCompile(`^tcp://(\[[0-9A-Fa-f:.]+\]|[^:/\[\]]+):(\d+)$`)

// port also takes what Kubernetes puts into REDIS_PORT where a service is
// called redis: tcp://10.0.0.1:6379. Its address serves where no host is given.
func (in *interpreter) port(v, host *value, r *Redis) {
	addr := ""
	set(in, v, &r.Port, "a port from 1 to 65535", strconv.Itoa(r.Port), func(s string) (int, bool) {
		if m := serviceLink.FindStringSubmatch(s); m != nil {
			addr, s = strings.Trim(m[1], "[]"), m[2]
		}
		n, err := strconv.Atoi(s)
		return n, err == nil && n >= 1 && n <= 65535
	})
	if addr != "" && !host.given() {
		// Not into the default that host notes for the documentation: this
		// only happens with an environment.
		r.Host = addr
	}
}

// addrs takes host:port items.
func (in *interpreter) addrs(v *value, dst *[]string) {
	set(in, v, dst, "host:port, separated by commas", "", func(s string) ([]string, bool) {
		items := splitList(s)
		for _, item := range items {
			host, port, err := net.SplitHostPort(item)
			n, aerr := strconv.Atoi(port)
			if err != nil || aerr != nil || host == "" || n < 1 || n > 65535 {
				return nil, false
			}
		}
		return items, len(items) > 0
	})
}

const acceptsURL = "redis://, rediss:// or unix:// with a host or path, or embedded; special characters of a password are percent-encoded"

// url takes the URL apart. No part of it appears in a message: it may hold a
// password, and net/url's own errors quote it.
func (in *interpreter) url(v, db *value, r *Redis) {
	v.accepts = acceptsURL
	if !v.given() {
		return
	}
	if strings.EqualFold(v.text(), embedded) {
		r.Embedded = true
		return
	}
	u, err := url.Parse(v.text())
	if err != nil {
		in.wrong(v)
		return
	}
	switch u.Scheme {
	case "unix":
		if u.Path == "" || u.Host != "" {
			in.complain(v, "%s names no socket: unix:// is followed by its path, as in unix:///run/redis.sock", v.name())
			return
		}
		r.Host = u.Path
	case "redis", "rediss":
		if !in.hostOf(v, u, r) {
			return
		}
	default:
		in.wrong(v)
		return
	}
	if !in.database(v, db, u, r) {
		return
	}
	r.TLS = r.TLS || u.Scheme == "rediss"
	r.URL = u.String()
}

func (in *interpreter) hostOf(v *value, u *url.URL, r *Redis) bool {
	if u.Hostname() == "" || u.Opaque != "" {
		in.complain(v, "%s names no host, and must be %s", v.name(), acceptsURL)
		return false
	}
	r.Host, r.Port = u.Hostname(), 6379
	if u.Port() == "" {
		return true
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil || port < 1 || port > 65535 {
		in.complain(v, "%s has a port that is not from 1 to 65535", v.name())
		return false
	}
	r.Port = port
	return true
}

// foreignOptions are options that clients in other languages take in the URL, as hosting
// providers give it, and what is set in their place.
var foreignOptions = map[string]string{
	"ssl_cert_reqs":      "and set REDIS_TLS_INSECURE=true if the server's certificate is not to be checked",
	"ssl_check_hostname": "and set REDIS_TLS_SERVER_NAME to the name in the server's certificate",
	"ssl_ca_certs":       "and set REDIS_TLS_CA_FILE",
	"ssl_certfile":       "and set REDIS_TLS_CERT_FILE",
	"ssl_keyfile":        "and set REDIS_TLS_KEY_FILE",
	"ssl":                "and begin the URL with rediss://",
	"tls":                "and begin the URL with rediss://",
	"socket_timeout":     "and set SIDECAR_REDIS_READ_TIMEOUT",
	"decode_responses":   "it has no meaning here",
	"family":             "it has no meaning here",
}

// database makes the URL and DB say the same: the URL where it names a
// database, unless a flag does.
func (in *interpreter) database(v, db *value, u *url.URL, r *Redis) bool {
	query := u.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if ours := foreignOptions[name]; ours != "" {
			in.complain(v, "%s has the option %s of another client: remove it, %s", v.name(), name, ours)
			return false
		}
	}
	named := query.Get("db")
	query.Del("db")
	if u.Scheme != "unix" && strings.Trim(u.Path, "/") != "" {
		named = strings.Trim(u.Path, "/")
	}
	if named != "" {
		n, err := strconv.Atoi(named)
		if err != nil || n < 0 || n > maxDB {
			in.complain(v, "%s has a path that is no database number", v.name())
			return false
		}
		if !db.byFlag() || v.byFlag() {
			r.DB = n
		}
	}
	if u.Scheme == "unix" {
		if r.DB != 0 {
			query.Set("db", strconv.Itoa(r.DB))
		}
	} else {
		u.Path = "/" + strconv.Itoa(r.DB)
	}
	u.RawQuery = query.Encode()
	return true
}

// redisConflicts finds settings that contradict each other, and what does not
// work yet.
func (vs *variables) redisConflicts(in *interpreter, r *Redis, graflow bool) {
	d := &vs.dropIn
	exclude := func(a, b *value) {
		if a.given() && b.given() {
			in.complain(a, "%s and %s exclude each other: set one of them", a.name(), b.name())
		}
	}
	exclude(&d.RedisURL, &d.RedisAddrs)
	exclude(&d.RedisPassword, &d.RedisPasswordFile)
	if u, err := url.Parse(r.URL); r.URL != "" && err == nil && u.User != nil {
		if _, ok := u.User.Password(); ok {
			exclude(&d.RedisURL, &d.RedisPassword)
			exclude(&d.RedisURL, &d.RedisPasswordFile)
		}
	}
	if r.Embedded {
		for _, v := range []*value{&d.RedisSentinel, &d.RedisTLS, &d.RedisUsername, &d.RedisPassword, &d.RedisPasswordFile} {
			if v.given() {
				in.complain(v, "%s does not go with the embedded Redis", v.name())
			}
		}
	}
	if d.RedisSentinel.given() && !d.RedisAddrs.given() {
		in.complain(&d.RedisSentinel, "%s needs the sentinels in REDIS_ADDRS", d.RedisSentinel.name())
	}
	if r.Cluster && r.DB != 0 {
		in.complain(&d.RedisDB, "%s is %d, and a Redis Cluster has database 0 only", d.RedisDB.name(), r.DB)
	}
	if graflow && d.RedisAddrs.given() {
		in.complain(&d.RedisAddrs, "REDIS_ADDRS does not go with --graflow: Graflow has no client for a Redis Cluster, and its workers cannot ask sentinels")
	}
	if d.RedisTLSCertFile.given() != d.RedisTLSKeyFile.given() {
		in.complain(&d.RedisTLSCertFile, "REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE go together: one of them is not set")
	}
	if !r.TLS && !r.Embedded {
		for _, v := range []*value{&d.RedisTLSCAFile, &d.RedisTLSCertFile, &d.RedisTLSServer, &d.RedisTLSInsecure} {
			if v.given() {
				in.complain(v, "%s is set, but TLS is not asked for: set REDIS_TLS=true or use rediss://", v.name())
			}
		}
	}
}
