package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
)

// ErrClusterNode means that the configured single server is a node of a Redis Cluster
// that does not have all keys.
var ErrClusterNode = errors.New("this is one node of a Redis Cluster: name its nodes in REDIS_ADDRS, and use a key prefix with a hash tag, such as {graflow}")

// QueueError means that the sidecars of the prefix serve another queue. A prefix has one
// queue: a sidecar that takes over the records of another returns them to its own.
type QueueError struct {
	Prefix      string
	Served, Own string // the queues of the running sidecars and of the caller
}

func (e *QueueError) Error() string {
	return fmt.Sprintf("the running sidecars of REDIS_KEY_PREFIX=%s serve the queue %s, and this one is for %s: give each queue (SIDECAR_QUEUE_KEY) a REDIS_KEY_PREFIX of its own", e.Prefix, e.Served, e.Own)
}

func isQueue(err error) bool {
	_, ok := errors.AsType[*QueueError](err)
	return ok
}

// Class tells how to handle an error.
type Class int

const (
	// ClassNone is the class of nil.
	ClassNone Class = iota
	// ClassTransient is temporary: wait and retry. Every unknown error is of this class.
	ClassTransient
	// ClassFatal is permanent: Redis refuses the sidecar, or its data is invalid. Report
	// it and stop.
	ClassFatal
	// ClassGone means that the run is not a member: see [ErrGone].
	ClassGone
	// ClassRejected is permanent for this call only: the call contains data that Redis
	// never accepts, see [RejectedError].
	ClassRejected
	// ClassCanceled is caused by the caller: its context was cancelled, or the client is
	// closed.
	ClassCanceled
)

// Classify returns the class of an error of this package.
func Classify(err error) Class {
	class, _ := classify(err)
	return class
}

// ClassName returns a short constant for an error, for logs and metrics: conn_refused,
// timeout, readonly, noauth … It is "other" for an unknown error and "" for nil.
func ClassName(err error) string {
	_, name := classify(err)
	return name
}

func classify(err error) (Class, string) {
	var reply goredis.Error
	switch {
	case err == nil, isNilReply(err):
		return ClassNone, ""
	case errors.Is(err, ErrGone):
		return ClassGone, "gone"
	case isFormat(err):
		return ClassFatal, "format"
	case isQueue(err):
		return ClassFatal, "queue"
	case errors.Is(err, ErrClusterNode):
		return ClassFatal, "cluster"
	case errors.Is(err, context.Canceled), errors.Is(err, goredis.ErrClosed):
		return ClassCanceled, "canceled"
	case noMaster(err):
		return ClassTransient, "no_master"
	case isRejection(err):
		return ClassRejected, "rejected"
	case errors.As(err, &reply):
		return classifyReply(err)
	default:
		return ClassTransient, classifyNetwork(err)
	}
}

// replies are the error replies that go-redis has no type for, by their prefix without
// "ERR ".
var replies = []struct {
	prefix string
	class  Class
	name   string
}{
	{"MISCONF ", ClassTransient, "misconf"},
	{"BUSY ", ClassTransient, "busy"},
	{"UNBLOCKED ", ClassTransient, "unblocked"},
	{"NOSCRIPT ", ClassTransient, "noscript"},
	{"WRONGTYPE ", ClassFatal, "wrongtype"},
	{"WRONGPASS ", ClassFatal, "wrongpass"},
	{"NOAUTH ", ClassFatal, "noauth"},
	{"DB index is out of range", ClassFatal, "bad_db"},
	{"invalid DB index", ClassFatal, "bad_db"},
	// NOPERM within a script, of Redis 7.0 and later and of Valkey.
	{"The user executing the script can't ", ClassFatal, "noperm"},
	{"ACL failure in script: ", ClassFatal, "noperm"},
}

func classifyReply(err error) (Class, string) {
	switch {
	case goredis.IsLoadingError(err):
		return ClassTransient, "loading"
	case goredis.IsReadOnlyError(err):
		return ClassTransient, "readonly"
	case goredis.IsMasterDownError(err):
		return ClassTransient, "masterdown"
	case goredis.IsClusterDownError(err):
		return ClassTransient, "clusterdown"
	case goredis.IsTryAgainError(err):
		return ClassTransient, "tryagain"
	case goredis.IsNoReplicasError(err):
		return ClassTransient, "noreplicas"
	case goredis.IsOOMError(err):
		return ClassTransient, "oom"
	case goredis.IsMaxClientsError(err):
		return ClassTransient, "max_clients"
	case goredis.IsPermissionError(err):
		return ClassFatal, "noperm"
	}
	if _, moved := goredis.IsMovedError(err); moved {
		return ClassTransient, "moved"
	}
	for _, r := range replies {
		if goredis.HasErrorPrefix(err, r.prefix) {
			return r.class, r.name
		}
	}
	if goredis.IsAuthError(err) {
		return ClassFatal, "noauth"
	}
	return ClassTransient, "other"
}

func classifyNetwork(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted):
		return "pool_timeout"
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return "conn_refused" // a missing socket file equals a missing listener
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "conn_reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "conn_closed"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case isTLS(err):
		return "tls"
	default:
		return "other"
	}
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var authority x509.UnknownAuthorityError
	return errors.As(err, &verification) || errors.As(err, &header) || errors.As(err, &alert) || errors.As(err, &authority) ||
		isAlert(err)
}
