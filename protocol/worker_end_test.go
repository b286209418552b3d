package protocol

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestServeOrphaned(t *testing.T) {
	t.Run("P38 idle", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			c.w.Close()
			c.end(ErrOrphaned)
		})
	})
	t.Run("P38 the handler is told", func(t *testing.T) {
		h := func(ctx context.Context, _ *Task) (any, error) {
			<-ctx.Done()
			return errors.Is(context.Cause(ctx), ErrOrphaned), nil
		}
		serve(t, h, func(_ *testing.T, c *conn) {
			c.run(1, "1")
			c.silence()
			c.w.Close()
			c.wantResult(1, `{"status":"succeeded","value":true}`)
			c.end(ErrOrphaned)
		})
	})
	t.Run("P38 the handler does not listen", func(t *testing.T) {
		serve(t, func(context.Context, *Task) (any, error) { time.Sleep(time.Hour); return nil, nil }, func(t *testing.T, c *conn) {
			c.run(1, "1")
			c.silence()
			before := time.Now()
			c.w.Close()
			c.end(ErrOrphaned)
			if took := time.Since(before); took >= time.Second {
				t.Errorf("it took %v", took)
			}
			time.Sleep(2 * time.Hour)
		})
	})
	t.Run("stdin fails", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			c.w.CloseWithError(syscall.EIO)
			c.end(syscall.EIO)
		})
	})
	t.Run("stdout is closed", func(t *testing.T) {
		serve(t, seconds, func(_ *testing.T, c *conn) {
			c.run(1, "50")
			c.silence()
			c.stdout.Close()
			c.send(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
			c.end(ErrOrphaned)
		})
	})
	t.Run("without a handshake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := start(t, answer)
			c.w.Close()
			c.end(ErrNoSidecar)
		})
	})
}

// A sidecar that stops reading must not keep the worker when it goes.
func TestServeOrphanedWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stdin, w := io.Pipe()
		r, stdout := io.Pipe()
		result := make(chan error, 1)
		go func() { result <- Serve(t.Context(), answer, WithIO(stdin, stdout)) }()
		if _, err := io.WriteString(w, `{"jsonrpc":"2.0","id":1,"method":"ping"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := time.Now()
		w.Close()
		if err := <-result; err == nil {
			t.Error("Serve returned nil")
		}
		if took := time.Since(before); took >= time.Second {
			t.Errorf("P38: it took %v", took)
		}
		r.Close()
	})
}

var errStop = errors.New("stop")

func TestServeContextEnds(t *testing.T) {
	serve(t, seconds, func(t *testing.T, c *conn) {
		before := time.Now()
		c.run(1, "5")
		c.silence()
		c.cancel(errStop)
		c.want(`{"jsonrpc":"2.0","method":"$/draining"}`)
		c.run(2, "1") // it was on its way
		c.wantCode("2", CodeNotStarted)
		c.wantResult(1, `{"status":"succeeded","value":5}`)
		c.end(errStop)
		if took := time.Since(before); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestServeContextEndsIdle(t *testing.T) {
	serve(t, seconds, func(t *testing.T, c *conn) {
		before := time.Now()
		c.cancel(errStop)
		c.want(`{"jsonrpc":"2.0","method":"$/draining"}`)
		c.end(errStop)
		if took := time.Since(before); took != leaveGrace {
			t.Errorf("it took %v", took)
		}
	})
}

type ctxKey struct{}

func TestServeContextValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stdin, w := io.Pipe()
		var out strings.Builder
		ctx := context.WithValue(t.Context(), ctxKey{}, "kept")
		result := make(chan error, 1)
		go func() {
			result <- Serve(ctx, func(ctx context.Context, _ *Task) (any, error) {
				return ctx.Value(ctxKey{}), nil
			}, WithIO(stdin, &out))
		}()
		for _, line := range []string{
			`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}`,
			`{"jsonrpc":"2.0","id":1,"method":"task/run","params":{"delivery":"r.1","record":1}}`,
		} {
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if _, err := io.WriteString(w, `{"jsonrpc":"2.0","method":"shutdown"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if want := `"value":"kept"`; !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s in it", out.String(), want)
		}
	})
}
