package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ClientOptions configures the connection to Redis. The zero value is localhost:6379.
type ClientOptions struct {
	// URL is a redis://, rediss:// or unix:// URL in go-redis' format. Missing parts are
	// taken from the fields below.
	URL string
	// Host and Port are used without a URL and without Addrs. A Host that
	// begins with a slash is a Unix socket. Default localhost, 6379.
	Host string
	Port int
	// Addrs are Sentinels if SentinelMaster is set, else nodes of a Cluster; each is
	// host:port.
	Addrs []string
	// SentinelMaster is the name of the master to ask the Sentinels for.
	SentinelMaster   string
	SentinelUsername string
	SentinelPassword string
	// Cluster uses Redis Cluster even with a single address.
	Cluster bool

	Username string
	Password string
	// RefreshPassword, if set, returns the password for each new connection. The password may
	// change while the client is open.
	RefreshPassword func() (password string, err error)
	DB              int
	// TLS is used unchanged if set. rediss:// without it uses the system's root
	// certificates.
	TLS *tls.Config
	// ClientName is the name in CLIENT LIST, if the server has CLIENT.
	ClientName string

	// PoolSize is the maximum number of connections to each server. A caller that needs
	// one more gets an error and does not wait. 1 becomes 2, because a Wait uses one.
	// Zero means go-redis' default for this and the next fields.
	PoolSize        int
	MinIdleConns    int
	ConnMaxIdleTime time.Duration
	DialTimeout     time.Duration
	ReadTimeout     time.Duration
	WriteTimeout    time.Duration
	// BufferSize is the size of each of a connection's two buffers. go-redis' default of
	// 32 KiB is for connections that move records.
	BufferSize int
	// Dial is for tests: it opens the connections in place of a [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const minPool = 2

// defaultDialTimeout is go-redis' default.
const defaultDialTimeout = 5 * time.Second

// breakerOff is the PoolSize given to go-redis. After as many failed dials as PoolSize,
// go-redis fails calls itself and probes the server once a second: a pool of two would
// find a recovered server a second late. The callers decide when to retry, and
// MaxActiveConns limits the connections.
const breakerOff = 4096

// NewClient returns a client for [New]. It does not connect. The client never repeats a
// command: the callers decide about backoff and repetition. No error contains a password.
func NewClient(o ClientOptions) (goredis.UniversalClient, error) {
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	switch {
	case u.IsClusterMode && u.MasterName != "":
		return nil, errors.New("redis: Sentinel and Cluster exclude each other")
	case u.IsClusterMode && u.DB != 0:
		return nil, fmt.Errorf("redis: a Cluster has database 0 only, not %d", u.DB)
	}
	return goredis.NewUniversalClient(u), nil
}

func (o ClientOptions) universal() (*goredis.UniversalOptions, error) {
	base := &goredis.Options{Addr: o.address(), DB: o.DB}
	if o.URL != "" {
		var err error
		if base, err = goredis.ParseURL(o.URL); err != nil {
			return nil, fmt.Errorf("REDIS_URL cannot be used: %w", withoutURL(err))
		}
	}
	u := &goredis.UniversalOptions{
		Addrs:            []string{base.Addr},
		MasterName:       o.SentinelMaster,
		SentinelUsername: o.SentinelUsername,
		SentinelPassword: o.SentinelPassword,
		IsClusterMode:    o.Cluster,
		Username:         or(base.Username, o.Username),
		Password:         or(base.Password, o.Password),
		DB:               or(base.DB, o.DB),
		TLSConfig:        base.TLSConfig,

		PoolSize:        or(base.PoolSize, o.PoolSize),
		MinIdleConns:    or(base.MinIdleConns, o.MinIdleConns),
		ConnMaxIdleTime: or(base.ConnMaxIdleTime, o.ConnMaxIdleTime),
		DialTimeout:     or(base.DialTimeout, o.DialTimeout),
		ReadTimeout:     or(base.ReadTimeout, o.ReadTimeout),
		WriteTimeout:    or(base.WriteTimeout, o.WriteTimeout),

		ReadBufferSize:  o.BufferSize,
		WriteBufferSize: o.BufferSize,

		// The connection that was idle longest is used first, so that CheckIdle checks
		// all of them.
		PoolFIFO: true,

		MaxRetries:            -1,
		DialerRetries:         1,
		PipelinePoolSize:      -1,
		ContextTimeoutEnabled: true,
		// CLIENT SETINFO costs a round trip for each connection, and servers before 7.2
		// answer it with an error.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.RefreshPassword != nil {
		username := u.Username
		u.Password = ""
		u.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := o.RefreshPassword()
			return username, password, err
		}
	}
	if u.PoolSize > 0 {
		u.MaxActiveConns = max(u.PoolSize, minPool)
		u.PoolSize = max(u.MaxActiveConns, breakerOff)
	}
	if name := or(base.ClientName, o.ClientName); name != "" {
		// ClientName is not used: go-redis drops a connection that cannot be named.
		u.OnConnect = setName(name)
	}
	if len(o.Addrs) > 0 {
		u.Addrs = o.Addrs
		u.IsClusterMode = o.Cluster || len(o.Addrs) > 1 && o.SentinelMaster == ""
	}
	if o.TLS != nil {
		u.TLSConfig = o.TLS.Clone()
		if u.TLSConfig.ServerName == "" && base.TLSConfig != nil {
			u.TLSConfig.ServerName = base.TLSConfig.ServerName
		}
	}
	u.Dialer = dialer(or(u.DialTimeout, defaultDialTimeout), u.TLSConfig, o.Dial)
	return u, nil
}

func (o ClientOptions) address() string {
	host, port := or(o.Host, "localhost"), or(o.Port, 6379)
	if strings.HasPrefix(host, "/") {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// or returns the first value, or the second one if the first is zero.
func or[T comparable](first, second T) T {
	var zero T
	if first != zero {
		return first
	}
	return second
}

// withoutURL removes a URL, which may contain a password, from an error.
func withoutURL(err error) error {
	if parse, ok := errors.AsType[*url.Error](err); ok {
		return parse.Err
	}
	return err
}

// SetLogger sends what go-redis itself logs, for the whole process, to log at
// the level debug; nil drops it. It logs mostly what its callers get as
// errors too.
func SetLogger(log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	goredis.SetLogger(logger{log})
}

type logger struct{ log *slog.Logger }

func (l logger) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "go-redis message", "line", fmt.Sprintf(format, v...))
	}
}
