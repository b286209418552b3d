package protocol

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// untilCancelled is a handler that ends with its context.
func untilCancelled(ctx context.Context, _ *Task) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// seconds is a handler that sleeps as many seconds as its record says.
func seconds(ctx context.Context, t *Task) (any, error) {
	var n int
	if err := t.Decode(&n); err != nil {
		return nil, err
	}
	select {
	case <-time.After(time.Duration(n) * time.Second):
		return n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestServeCancel(t *testing.T) {
	t.Run("P31 a task that gives up", func(t *testing.T) {
		serve(t, untilCancelled, func(_ *testing.T, c *conn) {
			c.run(1, "{}")
			c.silence()
			c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`)
			c.wantCode("1", CodeCancelled)
			c.shutdown()
		})
	})
	t.Run("P31 a task that succeeds all the same", func(t *testing.T) {
		h := func(ctx context.Context, _ *Task) (any, error) {
			<-ctx.Done()
			return errors.Is(context.Cause(ctx), CodeCancelled), nil
		}
		serve(t, h, func(_ *testing.T, c *conn) {
			c.run(1, "{}")
			c.silence()
			c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`)
			c.wantResult(1, `{"status":"succeeded","value":true}`)
			c.shutdown()
		})
	})
	t.Run("P31 a panic after a cancel is a panic", func(t *testing.T) {
		h := func(ctx context.Context, _ *Task) (any, error) {
			<-ctx.Done()
			panic("oh")
		}
		serve(t, h, func(t *testing.T, c *conn) {
			c.run(1, "{}")
			c.silence()
			c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`)
			if m := c.message(); m.Error != nil || !strings.Contains(string(m.Result), `"panic: oh"`) {
				t.Errorf("got %+v", m)
			}
			c.shutdown()
		})
	})
	t.Run("P31 an unstarted task, P30 an unknown one", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			for id := 1; id <= 3; id++ {
				c.run(id, "1")
			}
			c.silence()
			for _, id := range []string{"2", "2", "9", `"1"`} {
				c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":` + id + `}}`)
			}
			c.wantCode("2", CodeCancelled)
			c.wantResult(1, `{"status":"succeeded","value":1}`)
			c.wantResult(3, `{"status":"succeeded","value":1}`)
			c.shutdown()
		})
	})
	t.Run("a cancel without an id", func(t *testing.T) {
		serve(t, seconds, func(t *testing.T, c *conn) {
			c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest"}`)
			if m := c.message(); m.Method != MethodLog {
				t.Errorf("got %+v", m)
			}
			c.shutdown()
		})
	})
}

func TestServeDeadline(t *testing.T) {
	serve(t, untilCancelled, func(t *testing.T, c *conn) {
		before := time.Now()
		at := before.Add(3 * time.Second).Truncate(time.Millisecond)
		c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"task/run","params":{"delivery":"r.1","record":1,"deadlineUnixMs":%d}}`, at.UnixMilli()))
		c.wantResult(1, `{"status":"failed","error":{"type":"context.deadlineExceededError","message":"context deadline exceeded","retryable":false}}`)
		if now := time.Now(); !now.Equal(at) {
			t.Errorf("P32: it ended after %v", now.Sub(before))
		}
		c.shutdown()
	})
}

func TestServeConcurrency(t *testing.T) {
	const n = 3
	serve(t, seconds, func(t *testing.T, c *conn) {
		before := time.Now()
		for id := 1; id <= 7; id++ {
			c.run(id, "1")
		}
		for id := 1; id <= 7; id++ {
			c.message()
			want := time.Duration((id+n-1)/n) * time.Second
			if took := time.Since(before); took != want {
				t.Errorf("P26: answer %d came after %v, want %v", id, took, want)
			}
		}
		c.shutdown()
	}, WithConcurrency(n))
}

// More runners than stay when there is nothing to do come, go and come again.
func TestServeConcurrencyAgain(t *testing.T) {
	const n = 3 * maxParked
	serve(t, seconds, func(t *testing.T, c *conn) {
		for round := range 3 {
			before := time.Now()
			for id := range n + 1 {
				c.run(round*(n+1)+id+1, "1")
			}
			for id := range n + 1 {
				c.message()
				want := time.Duration(1+id/n) * time.Second
				if took := time.Since(before); took != want {
					t.Errorf("P26: answer %d of round %d came after %v, want %v", id+1, round, took, want)
				}
			}
			c.silence()
		}
		c.shutdown()
	}, WithConcurrency(n))
}

func TestServeKeepsTheOrder(t *testing.T) {
	serve(t, answer, func(_ *testing.T, c *conn) {
		for id := 1; id <= 100; id++ {
			c.run(id, "1")
		}
		for id := 1; id <= 100; id++ {
			c.wantResult(id, `{"status":"succeeded"}`)
		}
		c.shutdown()
	}, WithConcurrency(0))
}

func TestServeDrain(t *testing.T) {
	serve(t, seconds, func(_ *testing.T, c *conn) {
		c.run(1, "5")
		c.run(2, "1")
		c.silence()
		c.signals <- syscall.SIGTERM
		c.want(`{"jsonrpc":"2.0","method":"$/draining"}`)
		c.wantCode("2", CodeNotStarted)
		c.run(3, "1")
		c.wantCode("3", CodeNotStarted)
		c.signals <- os.Interrupt // again: P40
		c.wantResult(1, `{"status":"succeeded","value":5}`)
		time.Sleep(time.Hour)
		c.send(`{"jsonrpc":"2.0","id":"p","method":"ping"}`)
		c.want(`{"jsonrpc":"2.0","id":"p","result":{}}`)
		// P41: the end of stdin is as good as shutdown now.
		c.w.Close()
		c.end(nil)
	})
}

func TestServeShutdown(t *testing.T) {
	t.Run("P36 running tasks finish, unstarted ones do not start", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			c.run(1, "5")
			c.run(2, "1")
			c.silence()
			c.send(`{"jsonrpc":"2.0","method":"shutdown","params":{"budgetMs":20000}}`)
			c.wantCode("2", CodeNotStarted)
			c.run(3, "1")
			c.wantCode("3", CodeNotStarted)
			c.send(`{"jsonrpc":"2.0","id":"p","method":"ping"}`)
			c.want(`{"jsonrpc":"2.0","id":"p","result":{}}`)
			c.wantResult(1, `{"status":"succeeded","value":5}`)
			c.end(nil)
		})
	})
	t.Run("P37 the budget's end is the end of stdin", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			c.run(1, "50")
			c.silence()
			c.send(`{"jsonrpc":"2.0","method":"shutdown"}`)
			c.silence()
			c.w.Close()
			c.wantResult(1, `{"status":"failed","error":{"type":"error","message":"context canceled","retryable":false}}`)
			c.end(ErrOrphaned)
		})
	})
	t.Run("as a request", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			c.send(`{"jsonrpc":"2.0","id":1,"method":"shutdown"}`)
			c.want(`{"jsonrpc":"2.0","id":1,"result":{}}`)
			c.end(nil)
		})
	})
}
