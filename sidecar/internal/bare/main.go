// Command bare is the least that can stand between Redis and a worker: one
// record at a time, claimed and reported by the sidecar's own scripts over one
// connection, with no lease kept, no retry and no supervision. The benchmarks
// measure the sidecar against it (bench/).
//
//	bare -redis URL -prefix P                claims and reports, and does nothing in between
//	bare -redis URL -prefix P COMMAND ARG…   asks a worker in between, over pipes
//
// It waits with BLMOVE when the queue is empty, and ends on SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

func main() { os.Exit(execute()) } //nolint:forbidigo // nothing is deferred here

func execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	url := flag.String("redis", "redis://localhost:6379/0", "`URL` of the server")
	prefix := flag.String("prefix", "graflow", "key `prefix`")
	flag.Parse()
	if err := serve(ctx, *url, *prefix, flag.Args()); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, url, prefix string, command []string) error {
	c, err := redis.NewClient(redis.ClientOptions{URL: url, PoolSize: 1})
	if err != nil {
		return err
	}
	st, err := redis.New(c, redis.Options{Prefix: prefix, StoreValues: true})
	if err != nil {
		return err
	}
	defer st.Close()
	run := redis.NewRunID("bare")
	if err := st.Register(ctx, run); err != nil {
		return err
	}
	handle := func([]byte, string) error { return nil }
	if len(command) > 0 {
		w, err := start(command)
		if err != nil {
			return err
		}
		defer w.end()
		handle = w.run
	}
	for n := 0; ; n++ {
		got, err := st.Claim(ctx, run, fmt.Sprint(n), 1)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			if _, err := st.Wait(ctx, run, time.Second); err != nil {
				return err
			}
			continue
		}
		record, err := whole(ctx, st, run, got[0])
		if err != nil {
			return err
		}
		info, err := task.Decode(record)
		if err != nil {
			return err
		}
		if err := handle(record, got[0].Delivery); err != nil {
			return err
		}
		if _, err := st.Report(ctx, run, []redis.Report{{
			Delivery: got[0].Delivery, TaskID: info.TaskID, GroupID: info.GroupID, CreatedAt: info.CreatedAt,
			SessionID: info.SessionID, Success: true, Timestamp: time.Now(),
		}}); err != nil {
			return err
		}
	}
}

// whole returns the record of a delivery: a claim brings only the head of a large one.
func whole(ctx context.Context, st *redis.Store, run string, c redis.Claimed) ([]byte, error) {
	if len(c.Record) == c.Length {
		return c.Record, nil
	}
	var record []byte
	for len(record) < c.Length {
		part, err := st.RecordParts(ctx, run, c.Delivery, len(record)/redis.PartBytes, redis.MaxParts)
		if err != nil {
			return nil, err
		}
		if len(part) == 0 {
			return nil, fmt.Errorf("delivery %s is not in flight any more", c.Delivery)
		}
		record = append(record, part...)
	}
	return record, nil
}

// worker is a child that is asked one thing at a time.
type worker struct {
	cmd  *exec.Cmd
	in   *protocol.LineWriter
	out  *protocol.LineReader
	pipe io.Closer
	id   int64
}

func start(command []string) (*worker, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := reaper.Start(cmd); err != nil {
		return nil, err
	}
	w := &worker{cmd: cmd, in: protocol.NewLineWriter(in, 0), out: protocol.NewLineReader(out, 0), pipe: in}
	return w, w.ask(protocol.AppendRequest(nil, 0, protocol.MethodInitialize, []byte(`{"protocolVersion":1}`)))
}

func (w *worker) ask(line []byte) error {
	if err := errors.Join(w.in.WriteLine(line), w.in.Flush()); err != nil {
		return err
	}
	for {
		line, err := w.out.Next()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		m, err := protocol.DecodeMessage(line)
		if err != nil {
			return err
		}
		if m.IsResponse() {
			if m.Error != nil {
				return m.Error
			}
			return nil
		}
	}
}

func (w *worker) run(record []byte, delivery string) error {
	w.id++
	return w.ask(protocol.AppendTaskRun(nil, w.id, protocol.RunParams{Delivery: delivery, Record: record, Attempt: 1}))
}

func (w *worker) end() {
	_ = w.pipe.Close() // the end of its stdin ends a worker
	_ = w.cmd.Wait()
	reaper.Release(w.cmd.Process.Pid)
}
