package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// peer is one worker process, from the sidecar's side. The goroutine of the
// dialogue calls its methods; two more read what the worker writes, and one
// waits for its end.
type peer struct {
	cmd    *exec.Cmd
	stdin  *os.File
	judge  *judge
	tell   func(direction string, line []byte) // the dialogue, for people
	exited chan struct{}                       // the process has been waited for
	read   chan struct{}                       // stdout has ended
	logged chan struct{}                       // stderr has ended

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, with every message
	sent    map[string]*request
	answers []answer // in the order they came
	notices []string // methods of notifications, likewise
	state   connection
	ended   time.Time
	killed  bool // by us
}

// request is something that was asked of the worker, by its id.
type request struct {
	method   string
	delivery string
	at       time.Time
	canceled bool
}

// answer is one response of the worker.
type answer struct {
	id  string
	msg *protocol.Message
	at  time.Time
}

// connection is what the rules of a message depend on.
type connection struct {
	greeted      bool // initialize has been answered
	limit        int  // of a line, as initialize says
	stopping     bool // it has been told to, or has said $/draining
	orphaned     bool // its stdin has been closed: a reason to give tasks up
	capabilities map[string]bool
	deliveries   map[string]bool // that were ever sent
	waiting      map[string]bool // that said $/waiting

	finder protocol.MisframedFinder // of messages in other forms
}

// launch starts the worker.
func launch(w Worker, processID string, j *judge, tell func(string, []byte)) (*peer, error) {
	p := &peer{
		judge: j, tell: tell,
		exited: make(chan struct{}), read: make(chan struct{}), logged: make(chan struct{}),
		changed: make(chan struct{}),
		sent:    map[string]*request{},
		state: connection{
			limit:        protocol.DefaultMaxMessageBytes,
			capabilities: map[string]bool{}, deliveries: map[string]bool{}, waiting: map[string]bool{},
		},
	}
	p.cmd = exec.Command(w.Command[0], w.Command[1:]...)
	p.cmd.Env = w.Env
	if p.cmd.Env == nil {
		p.cmd.Env = os.Environ()
	}
	p.cmd.Env = append(slices.Clip(p.cmd.Env), "SIDECAR_PROCESS_ID="+processID)
	p.cmd.Dir = w.Dir
	ownGroup(p.cmd)
	// The pipes are ours and not os/exec's, whose Wait closes them unread.
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	var ends [3][2]*os.File
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll()
			return nil, err
		}
		ends[i] = [2]*os.File{r, w}
		files = append(files, r, w)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = ends[0][0], ends[1][1], ends[2][1]
	if err := p.cmd.Start(); err != nil {
		closeAll()
		return nil, err
	}
	p.stdin = ends[0][1]
	for _, theirs := range []*os.File{ends[0][0], ends[1][1], ends[2][1]} {
		theirs.Close()
	}
	go p.readMessages(ends[1][0])
	go p.readLog(ends[2][0])
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		p.mu.Lock()
		p.ended = time.Now()
		p.mu.Unlock()
		close(p.exited)
		// A grandchild may hold the pipes for as long as it lives.
		deadline := time.Now().Add(time.Second)
		_ = ends[1][0].SetReadDeadline(deadline)
		_ = ends[2][0].SetReadDeadline(deadline)
	}()
	return p, nil
}

// send writes lines at once, after noting what they ask for.
func (p *peer) send(text string, patience time.Duration) error {
	p.mu.Lock()
	for line := range strings.Lines(text) {
		p.note(bytes.TrimRight([]byte(line), "\r\n"))
	}
	p.mu.Unlock()
	for line := range strings.Lines(text) {
		p.tell("→", []byte(strings.TrimRight(line, "\r\n")))
	}
	_ = p.stdin.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.stdin, text); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("it read nothing from its stdin for %v", patience)
	} else if err != nil {
		return p.gone("it closed its stdin")
	}
	return nil
}

// note remembers a message that is about to be sent. p.mu is held.
func (p *peer) note(line []byte) {
	m, err := protocol.DecodeMessage(line)
	if err != nil {
		return
	}
	switch m.Method {
	case protocol.MethodCancel:
		id := cancelID(m.Params)
		if r := p.sent[id]; r != nil {
			r.canceled = true
		} else {
			p.sent[id] = &request{method: protocol.MethodCancel, canceled: true}
		}
		return
	case protocol.MethodShutdown:
		p.state.stopping = true
		return
	}
	if !m.IsRequest() {
		return
	}
	r := &request{method: m.Method, at: time.Now()}
	var hello protocol.InitializeParams
	if m.Method == protocol.MethodInitialize && json.Unmarshal(m.Params, &hello) == nil && hello.Limits.MaxMessageBytes > 0 {
		p.state.limit = hello.Limits.MaxMessageBytes
	}
	if params, err := protocol.DecodeRunParams(m.Params); m.Method == protocol.MethodTaskRun && err == nil {
		r.delivery = params.Delivery
		p.state.deliveries[r.delivery] = true
	}
	p.sent[string(m.ID)] = r
}

// signal sends a signal, which is a reason to refuse tasks.
func (p *peer) signal(name string) error {
	p.mu.Lock()
	p.state.stopping = true
	p.mu.Unlock()
	return signalGroup(p.cmd, name)
}

// closeStdin ends the worker's input.
func (p *peer) closeStdin() {
	p.tell("→", []byte("(end of stdin)"))
	p.mu.Lock()
	p.state.orphaned = true
	p.mu.Unlock()
	p.stdin.Close()
}

// dead reports whether the worker has ended.
func (p *peer) dead() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// gone says how the worker ended if it did, else what it did instead.
func (p *peer) gone(otherwise string) error {
	select {
	case <-p.exited:
		return errors.New("the worker " + fate(p.cmd.ProcessState))
	case <-time.After(time.Second): //nolint:forbidigo // once in a worker's life
		return errors.New(otherwise)
	}
}

// end makes sure that the worker has ended, and waits until everything that it
// wrote has been judged.
func (p *peer) end() {
	p.stdin.Close()
	t := time.NewTimer(1500 * time.Millisecond)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		p.mu.Lock()
		p.killed = true
		p.mu.Unlock()
	}
	killGroup(p.cmd) // and what it left behind
	<-p.exited
	<-p.read
	<-p.logged
}
