package redismodel_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// serve returns a server in the bubble of the test, and a client for it.
func serve(t *testing.T) (*redismodel.Server, *redis.Client) {
	t.Helper()
	server := redismodel.NewServer(redismodel.New(time.Now))
	var conns sync.WaitGroup
	t.Cleanup(conns.Wait)
	t.Cleanup(server.CloseConns)
	c := redis.NewClient(&redis.Options{
		MaxRetries: -1, DialerRetries: 1, ReadTimeout: time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}, // it would ask the DNS
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			conns.Go(func() { server.ServeConn(far) })
			return near, nil
		},
	})
	t.Cleanup(func() { _ = c.Close() })
	return server, c
}

// A blocking command waits in virtual time: for its timeout, an element, CLIENT UNBLOCK
// or the end of the connection.
func TestBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, c := serve(t)
		ctx := t.Context()
		began := time.Now()
		if err := c.BLMove(ctx, "a", "b", "LEFT", "RIGHT", 2*time.Second).Err(); !errors.Is(err, redis.Nil) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v, want nil after 2s", err, time.Since(began))
		}
		go func() {
			time.Sleep(700 * time.Millisecond)
			server.Do("RPUSH", "a", "x")
		}()
		began = time.Now()
		got, err := c.BLMove(ctx, "a", "b", "LEFT", "RIGHT", 2*time.Second).Result()
		if err != nil || got != "x" || time.Since(began) != 700*time.Millisecond {
			t.Errorf("%q, %v after %v, want x after 700ms", got, err, time.Since(began))
		}
		conn := c.Conn()
		id := conn.ClientID(ctx).Val()
		go func() {
			time.Sleep(300 * time.Millisecond)
			c.ClientUnblockWithError(ctx, id)
		}()
		if err := conn.BLMove(ctx, "a", "b", "LEFT", "RIGHT", 0).Err(); err == nil || err.Error() != "UNBLOCKED client unblocked via CLIENT UNBLOCK" {
			t.Errorf("%v, want UNBLOCKED", err)
		}
		go func() {
			time.Sleep(300 * time.Millisecond)
			server.CloseConns()
		}()
		if err := conn.BLMove(ctx, "a", "b", "LEFT", "RIGHT", 0).Err(); err == nil {
			t.Error("no error of a connection that was closed")
		}
		_ = conn.Close()
		server.Do("RPUSH", "a", "y")
		if n := server.Do("LLEN", "a").Int; n != 1 {
			t.Errorf("%d elements, want 1: a connection that has ended took one", n)
		}
	})
}

// A frozen server answers when it is thawed, and its database can be replaced meanwhile.
func TestFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, c := serve(t)
		ctx := t.Context()
		c.Set(ctx, "k", "old", time.Minute)
		var before *redismodel.Snapshot
		server.With(func(db *redismodel.DB) { before = db.Snapshot() })
		c.Set(ctx, "k", "new", 0)
		server.Freeze()
		server.With(func(db *redismodel.DB) { db.Restore(before) })
		time.AfterFunc(5*time.Second, server.Thaw)
		began := time.Now()
		if got := c.Get(ctx, "k").Val(); got != "old" || time.Since(began) != 5*time.Second {
			t.Errorf("%q after %v, want old after 5s", got, time.Since(began))
		}
		time.Sleep(time.Minute)
		if err := c.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("%v after the key's time to live, want nil", err)
		}
	})
}

// Subscriptions, transactions and refusals reach the client as those of Redis do.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, c := serve(t)
		ctx := t.Context()
		sub := c.Subscribe(ctx, "news")
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		if n := c.Publish(ctx, "news", "hello").Val(); n != 1 {
			t.Errorf("%d receivers, want 1", n)
		}
		if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "hello" {
			t.Errorf("message %v, %v", m, err)
		}
		_ = sub.Close()
		var set *redis.StatusCmd
		var all *redis.MapStringStringCmd
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			set = p.Set(ctx, "k", "v", 0)
			p.HSet(ctx, "h", "f", "1")
			all = p.HGetAll(ctx, "h")
			return nil
		})
		if err != nil || set.Val() != "OK" || all.Val()["f"] != "1" {
			t.Errorf("transaction: %v, %v, %v", err, set, all)
		}
		server.With(func(db *redismodel.DB) { db.SetMemoryFull(true) })
		if err := c.Set(ctx, "k", "v", 0).Err(); err == nil || err.Error() != "OOM command not allowed when used memory > 'maxmemory'." {
			t.Errorf("%v with full memory", err)
		}
		if err := c.Eval(ctx, "redis.call('PEXPIRE', 'k', 1000) return redis.call('SET', 'x', 'y')", nil).Err(); err != nil {
			t.Errorf("%v in a script that has written", err)
		}
		server.With(func(db *redismodel.DB) { db.SetMemoryFull(false); db.RefuseWrites(redismodel.ReadOnly) })
		if err := c.Eval(ctx, "return redis.call('DEL', 'x')", nil).Err(); err == nil || !redis.HasErrorPrefix(err, "READONLY ") {
			t.Errorf("%v from a replica", err)
		}
		server.With(func(db *redismodel.DB) { db.RefuseWrites("") })
		c.ConfigSet(ctx, "proto-max-bulk-len", "100")
		if err := c.Set(ctx, "k", make([]byte, 200), 0).Err(); err == nil || err.Error() != "ERR Protocol error: invalid bulk length" {
			t.Errorf("%v of a value that is too long", err)
		}
	})
}
