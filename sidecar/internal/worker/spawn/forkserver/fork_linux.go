package forkserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// request is the message that makes a fork server fork a worker. Four descriptors go
// with it: the worker's stdin, stdout and stderr and a socket for the answer.
type request struct {
	Parent int                `json:"parent"` // the process that adopts the worker
	Env    map[string]*string `json:"env"`    // the difference; null removes a variable
}

// answer is the worker's message that it runs, or an error.
type answer struct {
	PID   int    `json:"pid"`
	Error string `json:"error"`
}

// fork makes the fork server fork a worker. The worker goes on once it is a child of
// the sidecar, so that it can be waited for and ends with the sidecar.
func (p *process) fork(cmd *exec.Cmd) (local.Process, error) {
	ends, theirs, err := pipes()
	if err != nil {
		return nil, err
	}
	conn, hers, err := socketPair()
	if err != nil {
		closeAll(append(ends, theirs...))
		return nil, err
	}
	defer conn.Close()
	theirs = append(theirs, hers)

	// The worker may have ended before its answer was read.
	defer reaper.Expect()()
	got, err := p.ask(conn, theirs, request{Parent: os.Getpid(), Env: p.changes(cmd.Env)})
	if err != nil {
		closeAll(ends)
		return nil, err
	}
	worker, err := local.Adopt(got.PID, variables(cmd.Env)[local.IDVariable], ends[0], ends[1], ends[2])
	if err != nil {
		closeAll(ends) // and conn, whose end makes the worker exit
		return nil, err
	}
	_, _ = conn.Write([]byte{'\n'}) // an error shows later as the end of the worker
	return worker, nil
}

// ask sends a request, closes the files that go with it, and reads the answer.
func (p *process) ask(conn *net.UnixConn, theirs []*os.File, r request) (answer, error) {
	defer closeAll(theirs)
	packet, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	fds := make([]int, len(theirs))
	for i, f := range theirs {
		fds[i] = int(f.Fd())
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	deadline := time.Now().Add(p.cfg.forkTimeout)
	_ = p.control.SetWriteDeadline(deadline)
	if _, _, err := p.control.WriteMsgUnix(packet, unix.UnixRights(fds...), nil); err != nil {
		p.markStuck()
		return answer{}, fmt.Errorf("the fork server cannot be asked: %w", err)
	}
	closeAll(theirs) // the end of the socket would otherwise not be visible
	_ = conn.SetReadDeadline(deadline)
	buf := make([]byte, 64<<10)
	n, err := conn.Read(buf)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.markStuck()
		return answer{}, fmt.Errorf("the fork server did not answer within %v", p.cfg.forkTimeout)
	case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET):
		return answer{}, errors.New("the fork server or the fork ended")
	case err != nil:
		return answer{}, err
	}
	var got answer
	if err := json.Unmarshal(buf[:n], &got); err != nil {
		p.markStuck()
		return answer{}, fmt.Errorf("the fork server's answer cannot be read: %w", err)
	}
	if got.Error != "" {
		return answer{}, errors.New(got.Error)
	}
	return got, nil
}

// changes returns the difference of an environment from that of the fork server.
func (p *process) changes(env []string) map[string]*string {
	wanted := variables(env)
	changes := make(map[string]*string)
	for name := range p.env {
		if _, ok := wanted[name]; !ok {
			changes[name] = nil
		}
	}
	for name, value := range wanted {
		if own, ok := p.env[name]; !ok || own != value {
			changes[name] = &value
		}
	}
	return changes
}

// pipes makes the standard streams of a worker: the sidecar's ends and the worker's.
func pipes() (ours, theirs []*os.File, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, nil, fmt.Errorf("no pipe for the worker: %w", err)
		}
		if i == 0 {
			r, w = w, r
		}
		ours, theirs = append(ours, r), append(theirs, w)
	}
	return ours, theirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
