package rpc_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// TestAProgramThatDoesNotAnswerIsAdvised: after 3 s the log says, once, what is most often
// wrong with a program that does not speak the protocol. The sidecar's own adapter does.
func TestAProgramThatDoesNotAnswerIsAdvised(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   time.Duration
		adapter bool
		remote  bool
		want    int
		exec    bool // --mode exec is named
	}{
		{"a moment before", hintedAfter - time.Millisecond, false, false, 0, false},
		{"a moment after", hintedAfter + time.Millisecond, false, false, 1, true},
		{"the adapter", time.Minute / 2, true, false, 0, false},
		{"in another container", hintedAfter + time.Millisecond, false, true, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				silent := func(in, _ net.Conn) { _, _ = io.Copy(io.Discard, in) }
				f := &fakes{speaks: silent}
				b := startFake(t, f, func(cfg *rpc.Config) {
					cfg.Slots, cfg.Concurrency, cfg.Adapter = 3, 1, c.adapter
					if c.remote {
						cfg.Remote = func(context.Context, string) (local.Process, error) { return f.start(nil) }
					}
				})
				time.Sleep(c.after)
				synctest.Wait()
				if got := strings.Count(b.log.String(), "worker has not answered initialize yet"); got != c.want {
					t.Errorf("said %d times, want %d:\n%s", got, c.want, b.log.String())
				}
				if got := strings.Contains(b.log.String(), "--mode exec"); got != c.exec {
					t.Errorf("--mode exec is named: %v", got)
				}
				_ = b.stop() // an error where no worker ever started
			})
		})
	}
}

const hintedAfter = 3 * time.Second

// TestAdviceOfAProgramThatIsNoWorker: the end of the start says what may be wrong, unless
// the program failed by itself.
func TestAdviceOfAProgramThatIsNoWorker(t *testing.T) {
	for _, c := range []struct {
		name   string
		speaks func(in, out net.Conn)
		want   bool
	}{
		{"echoes", func(in, out net.Conn) { _, _ = io.Copy(out, in) }, true},
		{"never answers", func(in, _ net.Conn) { _, _ = io.Copy(io.Discard, in) }, true},
		{"prints and waits", func(in, out net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, in) }()
			for {
				if _, err := fmt.Fprintln(out, "y"); err != nil {
					return
				}
				time.Sleep(time.Millisecond) // or the bubble's clock would stand still
			}
		}, true},
		{"refuses", func(in, out net.Conn) {
			line, _ := bufio.NewReader(in).ReadBytes('\n')
			m, _ := protocol.DecodeMessage(line)
			_, _ = out.Write(append(protocol.AppendError(nil, m.ID, protocol.Errorf(1, "no licence")), '\n'))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startFake(t, &fakes{speaks: c.speaks}, func(cfg *rpc.Config) { cfg.StartTimeout = time.Second })
				err := <-b.ended
				if err == nil || strings.Contains(err.Error(), "--mode exec") != c.want {
					t.Errorf("%v; --mode exec is wanted: %v", err, c.want)
				}
				b.soft()
				b.hard()
				<-b.claiming
				time.Sleep(time.Second) // the process sees that its pipes are closed
			})
		})
	}
}

// textless is an error without a text, as MemoryError() of Python.
type textless struct{}

func (textless) Error() string { return "" }

// TestAFailureWithoutATextHasAMessage: the producer reads more than an empty text.
func TestAFailureWithoutATextHasAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startFake(t, &fakes{}, func(*rpc.Config) {})
		b.does(func(context.Context, *fakeProc, *protocol.Task) (any, error) { return nil, textless{} })
		b.push("t", 0)
		time.Sleep(time.Second)
		synctest.Wait()
		b.mu.Lock()
		failed := b.failed
		b.mu.Unlock()
		if failed.Conclusion != task.Failed || failed.Message == "" || failed.MessageJSON != nil {
			t.Errorf("%v: %q, as JSON %q", failed.Conclusion, failed.Message, failed.MessageJSON)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}
