//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// record is what producers push: Graflow's fields, and fields that tell the worker what to do.
type record struct {
	TaskID    string      `json:"task_id"`
	SessionID string      `json:"session_id"`
	GraphHash string      `json:"graph_hash"`
	TraceID   string      `json:"trace_id"`
	CreatedAt json.Number `json:"created_at"`
	GroupID   *string     `json:"group_id"`
	Parent    *string     `json:"parent_span_id"`

	Do   string `json:"do,omitempty"`   // a case of perform
	Ms   int    `json:"ms,omitempty"`   // how long the work takes
	Size int    `json:"size,omitempty"` // of the result, bytes
	// Timeout is the record's own deadline, s.
	Timeout float64 `json:"timeout,omitempty"`
	Kill    string  `json:"kill,omitempty"` // the step at which strike kills, once
	Pad     string  `json:"pad,omitempty"`
	// Next is a record that the task "channel" adds to the queue.
	Next json.RawMessage `json:"next,omitempty"`
}

// Environment variables that the sidecar passes on to its workers.
const (
	historyVariable = "FAULT_HISTORY" // the file to append to
	marksVariable   = "FAULT_MARKS"   // folder of the kill sites that were passed
	spareVariable   = "FAULT_SPARE"   // this sidecar is not to be killed
	daemonVariable  = "FAULT_DAEMON"  // how long a daemon of the worker lives, in ms
)

// worker runs the tasks of these tests and writes what it does to the history.
type worker struct {
	hist  *history.File
	marks string
	spare bool
}

func serveTasks() int {
	hist, err := history.Open(os.Getenv(historyVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if ms := os.Getenv(daemonVariable); ms != "" {
		if err := startDaemon(ms); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	w := &worker{hist, os.Getenv(marksVariable), os.Getenv(spareVariable) != ""}
	if err := protocol.Serve(context.Background(), w.handle); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serveByHand is a worker that writes its answers without the protocol package, in the one of
// the forms that the record names. With quits it exits with status 0 after its first answer,
// without announcing that.
func serveByHand(quits bool) int {
	hist, err := history.Open(os.Getenv(historyVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := &worker{hist: hist}
	in := json.NewDecoder(os.Stdin)
	open := false // the last answer has not ended its line
	for {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct {
				Delivery string `json:"delivery"`
				Record   record `json:"record"`
			} `json:"params"`
		}
		if err := in.Decode(&m); err != nil {
			return 0 // the sidecar is gone
		}
		switch m.Method {
		case protocol.MethodInitialize:
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"worker":{"name":"by-hand","version":"1"},"concurrency":1,"capabilities":{}}}`+"\n", m.ID)
		case protocol.MethodShutdown:
			return 0
		case protocol.MethodTaskRun:
			r := m.Params.Record
			line := history.Event{Task: r.TaskID, Delivery: m.Params.Delivery, Pid: os.Getpid(), Parent: os.Getppid()}
			if r.GroupID != nil {
				line.Group = *r.GroupID
			}
			for _, step := range []string{history.Started, history.Ended} {
				if err := w.note(line, step); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return 1
				}
			}
			// Each form is tested alone, so a line that a form left open must not become
			// the beginning of another form.
			if forms[r.Do].answer != "" && open {
				fmt.Println()
			}
			answer := answerTo(string(m.ID), r.Do)
			open = !strings.HasSuffix(answer, "\n")
			fmt.Print(answer)
			if quits {
				return 0
			}
		}
	}
}

// runTask is a process of mode exec: its record is on stdin. It handles no signal.
func runTask() int {
	hist, err := history.Open(os.Getenv(historyVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var r record
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := &worker{hist: hist}
	line := history.Event{Task: r.TaskID, Pid: os.Getpid(), Parent: os.Getppid()}
	if r.GroupID != nil {
		line.Group = *r.GroupID
	}
	for _, step := range []string{history.Started, history.Ended} {
		if err := w.note(line, step); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if step == history.Started {
			wait.Pass(time.Duration(r.Ms) * time.Millisecond)
		}
	}
	return 0
}

func (w *worker) handle(ctx context.Context, t *protocol.Task) (any, error) {
	var r record
	if err := t.Decode(&r); err != nil {
		return nil, err
	}
	line := history.Event{Task: r.TaskID, Delivery: t.Delivery, Pid: os.Getpid(), Parent: os.Getppid()}
	if r.GroupID != nil {
		line.Group = *r.GroupID
	}
	if err := w.note(line, history.Started); err != nil {
		return nil, err
	}
	w.strike(r, "start")
	if err := w.perform(ctx, t, r); err != nil {
		return nil, err
	}
	if err := w.note(line, history.Ended); err != nil {
		return nil, err
	}
	w.strike(r, "end")
	if r.Size > 0 && !strings.HasPrefix(r.Do, "value") {
		return strings.Repeat("x", r.Size), nil
	}
	return r.TaskID, nil
}

func (w *worker) note(e history.Event, what string) error {
	e.What = what
	return w.hist.Write(e)
}

var errOnPurpose = errors.New("failed on purpose")

func (w *worker) perform(ctx context.Context, t *protocol.Task, r record) error {
	switch r.Do {
	case "too large": // its result, of Size bytes, is too large for Redis
	case "value", "value too large":
		return keep(ctx, t, r)
	case "fail":
		return errOnPurpose
	case "retry": // once
		if mark, err := os.OpenFile(filepath.Join(w.marks, r.TaskID), os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			_ = mark.Close()
			return protocol.Retryable(errOnPurpose)
		}
	case "retry always":
		return protocol.Retryable(errOnPurpose)
	case "die":
		fmt.Fprintln(os.Stderr, "last words of", r.TaskID)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "die with sidecar": // as in a pod where a task takes all memory
		_ = syscall.Kill(os.Getppid(), syscall.SIGKILL)
		select {}
	case "hang":
		select {} // ignores a cancel
	case "channel":
		return ask(ctx, t, r)
	case "family":
		return w.family(ctx, r)
	case "nest": // waits for other tasks only, until the test makes the file
		defer t.Waiting()()
		fallthrough
	case "gate": // runs until the test makes the file
		gate := filepath.Join(w.marks, r.TaskID+".open")
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			if _, err := os.Stat(gate); err == nil {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	if r.Ms == 0 {
		return nil
	}
	timer := time.NewTimer(time.Duration(r.Ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// family does the work in a child of the worker, which a test may kill. The child ends with
// the worker, the only writer of the pipe that it reads.
func (w *worker) family(ctx context.Context, r record) error {
	cmd := exec.Command(os.Args[0], "sleeper", strconv.Itoa(r.Ms))
	hold, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer hold.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	_ = cmd.Wait() // killed or not, the task goes on
	return context.Cause(ctx)
}

// startDaemon starts a process that leaves the worker's group and keeps its
// stdout and stderr open.
func startDaemon(ms string) error {
	cmd := exec.Command(os.Args[0], "daemon", ms)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// sleepUntilOrphaned is the main function of a worker's child: it sleeps until its time is
// over or the worker is gone.
func sleepUntilOrphaned() int {
	ms, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return 64
	}
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // returns when the worker is gone
		close(orphaned)
	}()
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-orphaned:
	}
	return 0
}

// strike kills the worker ("self") or its sidecar ("parent") the first time that the task of
// the record passes a step. Kill is "parent-start", "parent-end", "self-start" or "self-end".
func (w *worker) strike(r record, step string) {
	who, at, ok := strings.Cut(r.Kill, "-")
	if !ok || at != step {
		return
	}
	mark, err := os.OpenFile(filepath.Join(w.marks, r.TaskID), os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return // it was passed before
	}
	_ = mark.Close()
	if w.spare {
		who = "self"
	}
	victim := os.Getpid()
	if who == "parent" {
		victim = os.Getppid()
	}
	if err := w.note(history.Event{Task: r.TaskID, Pid: victim, Text: who + "-" + at}, history.Kills); err != nil {
		return
	}
	_ = syscall.Kill(victim, syscall.SIGKILL)
	select {} // the worker dies with its sidecar
}
