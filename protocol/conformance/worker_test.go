package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// faulty is a worker written by hand, without the help of package protocol but
// for reading what comes in. It keeps every rule but the one that its fault is
// named after: the check that must find it.
type faulty struct {
	fault string
	slots int
	limit int

	mu       sync.Mutex
	queue    []*work
	running  map[string]*work
	draining bool
	stopping bool
	worked   bool   // it has run a task
	late     string // an answer that it keeps to itself
}

type work struct {
	id, delivery string
	task         string
	takes        time.Duration
	cancel       chan struct{}
}

func (f *faulty) is(fault string) bool { return f.fault == fault }

// main is the worker's program.
func (f *faulty) main() {
	f.limit, f.running = protocol.DefaultMaxMessageBytes, map[string]*work{}
	if f.slots = 1; f.is("always/task-errors") {
		f.slots = 2
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go f.signalled(signals)
	if f.is("always/greeting-first") {
		f.write(`{"jsonrpc":"2.0","method":"$/hello"}`)
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		if f.is("envelope/crlf") && strings.HasSuffix(line, "\r\n") && len(line) < 1000 {
			continue
		}
		line = strings.TrimRight(line, "\r\n")
		if f.is("envelope/flush") && in.Buffered() == 0 && strings.Contains(line, `"id":13,`) {
			f.late = line // as of a buffer that is not flushed
			continue
		}
		f.take([]byte(line))
		if f.late != "" {
			line, f.late = f.late, ""
			f.take([]byte(line))
		}
	}
	f.atEnd()
}

// atEnd is the end of stdin (P38).
func (f *faulty) atEnd() {
	f.mu.Lock()
	busy, told := len(f.running) > 0, f.stopping
	f.mu.Unlock()
	switch {
	case f.is("ends/stdin") && !busy, f.is("ends/stdin-busy") && busy && !told, f.is("ends/stdin-after-shutdown") && told:
		f.mu.Lock() // for ever: nothing else ends it either
		time.Sleep(3 * time.Second)
	case f.is("always/last-line"):
		fmt.Print(`{"jsonrpc":"2.0","method":"log"`)
	}
	os.Exit(1)
}

func (f *faulty) signalled(signals <-chan os.Signal) {
	for n := 0; ; n++ {
		sig := <-signals
		if f.is("drain/repeated") && n > 0 {
			os.Exit(1)
		}
		f.mu.Lock()
		first := !f.draining
		f.draining = true
		busy := len(f.running) > 0
		silent := f.is("drain/says-so") && sig == syscall.SIGTERM || f.is("interrupt/says-so") && sig == syscall.SIGINT && !busy
		if first && !silent {
			f.write(`{"jsonrpc":"2.0","method":"$/draining"}`)
		}
		if !f.is("drain/hands-back") {
			f.handBack()
		}
		f.mu.Unlock()
	}
}

// handBack answers what has not started. f.mu is held.
func (f *faulty) handBack() {
	for _, w := range f.queue {
		f.answer(w.id, `"error":{"code":-32001,"message":"not started"}`)
	}
	f.queue = nil
}

// take handles one line.
func (f *faulty) take(line []byte) {
	if len(line) > f.limit && !f.is("limits/too-long") {
		return
	}
	if f.is("limits/exact-limit") && len(line) == f.limit ||
		f.is("envelope/spaces") && bytes.ContainsRune(line, '\t') ||
		f.is("envelope/member-order") && bytes.HasPrefix(line, []byte(`{"params"`)) ||
		f.is("envelope/repeated-members") && bytes.Count(line, []byte(`"x":`)) > 2 ||
		f.is("envelope/unknown-members") && bytes.Contains(line, []byte(`"trace"`)) {
		return
	}
	if f.is("tasks/large-record") && len(line) > 1<<20 {
		line = line[:bytes.IndexByte(line, 'x')] // and what follows is no message either
	}
	m, err := protocol.DecodeMessage(line)
	if err != nil {
		return
	}
	id := string(m.ID)
	switch m.Method {
	case protocol.MethodInitialize:
		f.initialize(id, m.Params)
	case protocol.MethodPing:
		f.ping(id)
	case protocol.MethodTaskRun:
		f.accept(id, m.Params, line)
	case protocol.MethodCancel:
		f.cancel(cancelID(m.Params))
	case protocol.MethodShutdown:
		f.shutdown()
	default:
		switch {
		case m.IsNotification() && f.is("envelope/unknown-notification"):
			os.Exit(1)
		case m.IsRequest() && f.is("envelope/unknown-request"):
			f.answer(id, `"result":null`)
		case m.IsRequest():
			f.answer(id, `"error":{"code":-32601,"message":"no such method"}`)
		}
	}
}

func (f *faulty) ping(id string) {
	f.mu.Lock()
	busy, draining, stopping := len(f.running) > 0, f.draining, f.stopping
	f.mu.Unlock()
	switch {
	case f.is("envelope/ping") && id == "10":
		f.answer(id, `"result":"pong"`)
		return
	case f.is("envelope/ids") && len(id) > 15:
		return
	case f.is("shutdown/ping") && stopping, f.is("drain/ping") && draining && busy && id == "92":
		return
	case f.is("drain/stays") && id == "94", f.is("interrupt/exit") && id == "97":
		os.Exit(0)
	case f.is("busy/ping") && busy && id == "70", f.is("busy/reads") && busy && id == "72":
		go func() {
			for busy {
				time.Sleep(10 * time.Millisecond)
				f.mu.Lock()
				busy = len(f.running) > 0
				f.mu.Unlock()
			}
			f.answer(id, `"result":{}`)
		}()
		return
	}
	f.answer(id, `"result":{}`)
}

func (f *faulty) initialize(id string, params json.RawMessage) {
	var p protocol.InitializeParams
	_ = json.Unmarshal(params, &p)
	if p.Limits.MaxMessageBytes > 0 {
		f.limit = p.Limits.MaxMessageBytes
	}
	version, name, capabilities, concurrency := 1, `"faulty"`, `{"channels":{}}`, fmt.Sprint(f.slots)
	switch {
	case p.ProtocolVersion == 0 && !f.is("offers/none-in-common"):
		f.answer(id, `"error":{"code":-32602,"message":"no version in common"}`)
		return
	case f.is("offers/newer"):
		version = p.ProtocolVersion + p.ProtocolVersion/99
	case f.is("offers/more-members") && bytes.Contains(params, []byte("future")):
		return
	case f.is("start/answers"):
		os.Stdout = os.Stderr
	case f.is("start/version"):
		version = 2 - p.ProtocolVersion/99
	case f.is("start/name"):
		name = `7`
	case f.is("start/concurrency"):
		concurrency = `0`
	case f.is("start/capabilities"):
		capabilities = `7`
	case f.is("always/capabilities"):
		capabilities = `{}`
	}
	f.answer(id, fmt.Sprintf(`"result":{"protocolVersion":%d,"worker":{"name":%s,"version":"1"},"concurrency":%s,"capabilities":%s}`, version, name, concurrency, capabilities))
	switch {
	case f.is("always/one-answer"):
		f.answer("4711", `"result":{}`)
	case f.is("always/line-length") && f.limit < 5000:
		f.write(`{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"` + strings.Repeat("x", 5000) + `"}}`)
	}
}

func (f *faulty) shutdown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopping = true
	if !f.is("shutdown/hands-back") {
		f.handBack()
	}
	f.maybeLeave()
}

// maybeLeave ends the worker if it is told to and has nothing left. f.mu is held.
func (f *faulty) maybeLeave() {
	if !f.stopping || len(f.running) > 0 || len(f.queue) > 0 && !f.is("shutdown/hands-back") {
		return
	}
	switch {
	case f.is("shutdown/exit") && !f.draining && f.worked, f.is("drain/exit") && f.draining && f.worked:
		os.Exit(3)
	case f.is("ends/idle-shutdown") && !f.draining && !f.worked:
		return // its stdin is still open
	}
	os.Exit(0)
}
