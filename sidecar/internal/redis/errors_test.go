package redis

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// answer is the error that go-redis makes of an error reply.
func answer(text string) error {
	client := goredis.NewClient(&goredis.Options{
		MaxRetries: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer ours.Close()
				for _, reply := range []string{"%0", "-" + text} { // to HELLO and to PING
					if _, err := ours.Read(make([]byte, 4096)); err != nil {
						return
					}
					if _, err := io.WriteString(ours, reply+"\r\n"); err != nil {
						return
					}
				}
			}()
			return theirs, nil
		},
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	return client.Ping(context.Background()).Err()
}

func TestClassify(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	for _, c := range []struct {
		err   error
		class Class
		name  string
	}{
		{nil, ClassNone, ""},
		{goredis.Nil, ClassNone, ""},
		{&dialError{fmt.Errorf("all sentinels are unreachable: %w", errors.Join(goredis.Nil))}, ClassTransient, "no_master"},
		{&dialError{goredis.Nil}, ClassTransient, "no_master"},
		{&dialError{dial(syscall.ECONNREFUSED)}, ClassTransient, "conn_refused"},
		{&dialError{answer("WRONGPASS invalid username-password pair")}, ClassFatal, "wrongpass"},
		{ErrGone, ClassGone, "gone"},
		{context.Canceled, ClassCanceled, "canceled"},
		{goredis.ErrClosed, ClassCanceled, "canceled"},
		{context.DeadlineExceeded, ClassTransient, "timeout"},
		{os.ErrDeadlineExceeded, ClassTransient, "timeout"},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, ClassTransient, "timeout"},
		{dial(syscall.ETIMEDOUT), ClassTransient, "timeout"},
		{dial(syscall.ECONNREFUSED), ClassTransient, "conn_refused"},
		{dial(syscall.ENOENT), ClassTransient, "conn_refused"},
		{dial(syscall.EHOSTUNREACH), ClassTransient, "unreachable"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, ClassTransient, "conn_reset"},
		{&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, ClassTransient, "conn_reset"},
		{io.EOF, ClassTransient, "conn_closed"},
		{io.ErrUnexpectedEOF, ClassTransient, "conn_closed"},
		{net.ErrClosed, ClassTransient, "conn_closed"},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, ClassTransient, "dns"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}, ClassTransient, "dns"},
		{x509.UnknownAuthorityError{}, ClassTransient, "tls"},
		{goredis.ErrPoolTimeout, ClassTransient, "pool_timeout"},
		{errors.New("something else"), ClassTransient, "other"},

		{answer("LOADING Redis is loading the dataset in memory"), ClassTransient, "loading"},
		{answer("READONLY You can't write against a read only replica. script: x, on @user_script:1."), ClassTransient, "readonly"},
		{answer("MASTERDOWN Link with MASTER is down"), ClassTransient, "masterdown"},
		{answer("CLUSTERDOWN The cluster is down"), ClassTransient, "clusterdown"},
		{answer("TRYAGAIN Multiple keys request during rehashing of slot"), ClassTransient, "tryagain"},
		{answer("NOREPLICAS Not enough good replicas to write."), ClassTransient, "noreplicas"},
		{answer("OOM command not allowed when used memory > 'maxmemory'."), ClassTransient, "oom"},
		{answer("MISCONF Redis is configured to save RDB snapshots"), ClassTransient, "misconf"},
		{answer("BUSY Redis is busy running a script."), ClassTransient, "busy"},
		{answer("UNBLOCKED force unblock from blocking operation"), ClassTransient, "unblocked"},
		{answer("ERR max number of clients reached"), ClassTransient, "max_clients"},
		{answer("MOVED 3999 127.0.0.1:6381"), ClassTransient, "moved"},
		{answer("BUSYKEY Target key name already exists."), ClassTransient, "other"},
		{answer("ERR unknown command"), ClassTransient, "other"},
		{answer("NOAUTH Authentication required."), ClassFatal, "noauth"},
		{answer("WRONGPASS invalid username-password pair"), ClassFatal, "wrongpass"},
		{answer("NOPERM this user has no permissions"), ClassFatal, "noperm"},
		{answer("ERR The user executing the script can't run this command"), ClassFatal, "noperm"},
		{answer("ERR ACL failure in script: User weak has no permissions to run the 'pexpire' command script: 7b, on @user_script:26."), ClassFatal, "noperm"},
		{answer("ERR DB index is out of range"), ClassFatal, "bad_db"},
		{answer("WRONGTYPE Operation against a key holding the wrong kind of value"), ClassFatal, "wrongtype"},
	} {
		for _, err := range []error{c.err, fmt.Errorf("claim: %w", c.err)} {
			if c.err == nil {
				err = nil
			}
			if Classify(err) != c.class || ClassName(err) != c.name {
				t.Errorf("%v: class %d, name %q, want %d, %q", err, Classify(err), ClassName(err), c.class, c.name)
			}
		}
	}
}
