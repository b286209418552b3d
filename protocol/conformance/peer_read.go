package conformance

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// readMessages takes what the worker writes to stdout.
func (p *peer) readMessages(stdout *os.File) {
	defer close(p.read)
	defer stdout.Close()
	lines := protocol.NewLineReader(stdout, 2*protocol.DefaultMaxMessageBytes)
	for {
		line, err := lines.Next()
		var long *protocol.TooLongError
		var cut *protocol.UnterminatedError
		switch {
		case err == nil:
			if len(line) > 0 {
				p.tell("←", line)
			}
			p.receive(line)
		case errors.As(err, &long):
			p.judge.failed("always/line-length", fmt.Sprintf("a line of %d bytes", long.Length))
		case errors.As(err, &cut):
			p.mu.Lock()
			ours := p.killed
			p.mu.Unlock()
			if _, err := protocol.DecodeMessage(cut.Tail); !ours || err == nil {
				p.judge.failed("always/last-line", fmt.Sprintf("stdout ended with %s, without a line end", clip(cut.Tail)))
			}
		default:
			return
		}
	}
}

// receive judges one line and keeps what it says.
func (p *peer) receive(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.judge.line(&p.state, line) {
		switch {
		case m.IsResponse():
			id := p.judge.response(&p.state, p.sent, p.answers, m)
			p.answers = append(p.answers, answer{id: id, msg: m, at: time.Now()})
		default:
			p.judge.fromWorker(&p.state, m)
			p.notices = append(p.notices, m.Method)
			if m.IsRequest() {
				p.refuse(m)
			}
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// refuse answers a request of the worker: the kit serves none (P13, P45).
func (p *peer) refuse(m *protocol.Message) {
	line := protocol.AppendError(nil, m.ID, protocol.Errorf(protocol.CodeMethodNotFound, "the conformance kit does not serve %s", m.Method))
	go func() {
		p.tell("→", line)
		_, _ = p.stdin.Write(append(line, '\n')) // a worker that has gone asks for nothing
	}()
}

// readLog drains stderr, however much it is.
func (p *peer) readLog(stderr *os.File) {
	defer close(p.logged)
	defer stderr.Close()
	lines := protocol.NewLineReader(stderr, 4096)
	for {
		line, err := lines.Next()
		var cut *protocol.UnterminatedError
		var long *protocol.TooLongError
		switch {
		case errors.As(err, &cut):
			line = cut.Tail
		case errors.As(err, &long):
			line = long.Prefix
		case err != nil:
			return
		}
		p.tell(fromStderr, line)
	}
}
