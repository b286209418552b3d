package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// ceiling measures how many tasks a second a worker takes over two pipes from a
// caller that does nothing else: no Redis, no decoding, inFlight tasks at once.
// It also returns what processor time the worker took for each task, its start
// included.
func ceiling(ctx context.Context, n, inFlight int, env []string, command ...string) (perSecond float64, cpu time.Duration, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = stdin.Close()
			_ = cmd.Wait()
		}
	}
	defer end()
	in, out := protocol.NewLineWriter(stdin, 0), protocol.NewLineReader(stdout, 0)
	hello := protocol.AppendRequest(nil, 0, protocol.MethodInitialize, []byte(`{"protocolVersion":1}`))
	if err := errors.Join(in.WriteLine(hello), in.Flush()); err != nil {
		return 0, 0, err
	}
	if _, err := answer(out); err != nil {
		return 0, 0, err
	}
	text := []byte(record(nil, 1, "pipe", recordSize))
	free := make(chan struct{}, inFlight)
	for range inFlight {
		free <- struct{}{}
	}
	failed := make(chan error, 1)
	began := time.Now()
	go func() {
		var line []byte
		for i := range n {
			select {
			case <-free:
			default:
				if err := in.Flush(); err != nil {
					failed <- err
					return
				}
				select {
				case <-free:
				case <-ctx.Done():
					return
				}
			}
			line = protocol.AppendTaskRun(line[:0], int64(i+1), protocol.RunParams{Delivery: fmt.Sprint("run.", i), Record: text, Attempt: 1})
			if err := in.WriteLine(line); err != nil {
				failed <- err
				return
			}
		}
		failed <- in.Flush()
	}()
	for range n {
		if _, err := answer(out); err != nil {
			return 0, 0, err
		}
		free <- struct{}{}
	}
	took := time.Since(began)
	err = <-failed
	end()
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return float64(n) / took.Seconds(), used / time.Duration(n), err
}

func answer(out *protocol.LineReader) (protocol.Message, error) {
	for {
		line, err := out.Next()
		if err != nil {
			return protocol.Message{}, err
		}
		if len(line) == 0 {
			continue
		}
		m, err := protocol.DecodeMessage(line)
		if err != nil || m.IsResponse() {
			return m, err
		}
	}
}

// forks is how many processes a second can be started and waited for, so many
// at once, with nothing on their streams, and the processor time of each: its own
// and ours for it.
func forks(ctx context.Context, n, atOnce int, command ...string) (perSecond float64, cpu time.Duration, err error) {
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	errs := make(chan error, atOnce)
	began, used := time.Now(), ownUsage()
	for range atOnce {
		go func() {
			for range todo {
				if err := exec.CommandContext(ctx, command[0], command[1:]...).Run(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range atOnce {
		err = errors.Join(err, <-errs)
	}
	return float64(n) / time.Since(began).Seconds(), (ownUsage() - used) / time.Duration(n), err
}

// ownUsage is the processor time of this program, and of the children that it has
// waited for.
func ownUsage() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}
