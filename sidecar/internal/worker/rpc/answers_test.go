package rpc

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// values answers each request with a value of so many bytes.
type values struct {
	Requests
	bytes int
	asked atomic.Int64
}

func (v *values) Serve(context.Context, *task.Task, string, *protocol.TaskRequest) ([]byte, error) {
	v.asked.Add(1)
	return make([]byte, v.bytes), nil
}

// reader is the stdin of a worker that begins to read late.
type reader struct{ io.Writer }

func (reader) Close() error                     { return nil }
func (reader) SetWriteDeadline(time.Time) error { return nil }

// TestAnswersThatAreNotReadAreBounded: a worker requests a thousand large values and
// reads none of them. The memory for the answers is bounded, and each request is
// answered once the worker reads.
func TestAnswersThatAreNotReadAreBounded(t *testing.T) {
	const most, size, requests = 256 << 10, 64 << 10, 1000
	for _, method := range []string{protocol.MethodChannelGet, protocol.MethodChannelKeys} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &values{bytes: size}
				c := &child{cfg: &Config{MaxMessageBytes: most, Requests: v}, out: newOutbox(), reading: make(chan struct{}, maxReading)}
				ctx, cancel := context.WithCancel(t.Context())
				ask := func(ctx context.Context) {
					c.serveRequest(ctx, &runningTask{}, fmt.Append(nil, 1), method, &protocol.TaskRequest{})
				}
				var all sync.WaitGroup
				for range requests {
					all.Go(func() { ask(ctx) })
				}
				synctest.Wait()
				if got := c.out.unread(); got <= most || got > most+maxReading*(size+100) {
					t.Errorf("%d bytes wait for a worker that reads nothing", got)
				}
				ended, end := context.WithCancel(ctx)
				end()
				ask(ended) // the task has ended, so that its request does not wait
				gone := make(chan struct{})
				var writer sync.WaitGroup
				writer.Go(func() { _ = c.out.write(reader{io.Discard}, time.Minute, gone) })
				all.Wait()
				close(gone)
				writer.Wait()
				cancel()
				if got := v.asked.Load(); got != requests {
					t.Errorf("%d of %d requests were served", got, requests)
				}
			})
		})
	}
}

// TestShortAnswersDoNotWaitForLargeOnes: a worker may need a short answer to go on.
func TestShortAnswersDoNotWaitForLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &values{bytes: 2}
		c := &child{cfg: &Config{MaxMessageBytes: 1, Requests: v}, out: newOutbox(), reading: make(chan struct{}, maxReading)}
		c.out.add(func(dst []byte) []byte { return append(dst, "unread"...) })
		done, ok := c.reserveAnswer(t.Context(), protocol.MethodChannelUnlock)
		if !ok {
			t.Fatal("it was not let in")
		}
		done()
	})
}
