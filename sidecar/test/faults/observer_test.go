//go:build faults

package faults

import (
	"bufio"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// observer reads the write commands that Redis executes from its MONITOR stream, and adds
// those that end a record to the history. It has the server's time and the server's order,
// and does not depend on the sidecar.
type observer struct {
	addr   string
	prefix string
	hist   *history.File

	mu     sync.Mutex
	conn   net.Conn
	closed bool
	all    bool // look at the commands of every client, not only at those of scripts
	gaps   int  // connections after the first: commands in between were not seen
	marks  map[string]chan struct{}
	done   chan struct{}
	up     chan struct{} // closed when MONITOR is on for the first time
}

func observe(addr, prefix string, hist *history.File) *observer {
	o := &observer{
		addr: addr, prefix: prefix, hist: hist,
		marks: make(map[string]chan struct{}), done: make(chan struct{}), up: make(chan struct{}),
	}
	go o.run()
	return o
}

func (o *observer) run() {
	defer close(o.done)
	for first := true; ; first = false {
		o.mu.Lock()
		addr := o.addr
		o.mu.Unlock()
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err == nil {
			o.conn = conn
			if !first {
				o.gaps++
			}
		}
		o.mu.Unlock()
		if err != nil {
			wait.Pass(10 * time.Millisecond) // a server that restarts
			continue
		}
		o.follow(conn)
		_ = conn.Close()
	}
}

func (o *observer) follow(conn net.Conn) {
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		return
	}
	lines := bufio.NewReaderSize(conn, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "+OK") {
			o.mu.Lock()
			select {
			case <-o.up:
			default:
				close(o.up)
			}
			o.mu.Unlock()
			continue
		}
		o.line(line)
	}
}

// line reads "+1732335600.123456 [0 lua] "HSET" "key" …".
func (o *observer) line(line string) {
	head, rest, ok := strings.Cut(strings.TrimPrefix(line, "+"), "] ")
	if !ok {
		return
	}
	at, from, _ := strings.Cut(head, " ")
	const few = 4 // enough to recognise a command; a record may be 5 MB
	words := unquote(rest, few)
	if len(words) < 2 {
		return
	}
	if strings.EqualFold(words[0], "echo") {
		o.pass(words[1])
		return
	}
	words[0] = strings.ToUpper(words[0])
	if !strings.HasSuffix(from, " lua") && !o.looksAtAll() {
		return
	}
	script := strings.HasSuffix(from, " lua")
	reader := history.Reader{Prefix: o.prefix}
	if reader.Whole(words[0], words[1]) {
		name := words[0]
		words = unquote(rest, math.MaxInt)
		words[0] = name
	}
	for _, e := range reader.Events(nanoseconds(at), words, script) {
		o.write(e)
	}
}

func (o *observer) write(e history.Event) {
	if err := o.hist.Write(e); err != nil {
		panic(err) // without the history the checks prove nothing
	}
}

// unquote reads up to limit words, quoted as MONITOR does.
func unquote(text string, limit int) (words []string) {
	for len(words) < limit {
		text = strings.TrimLeft(text, " ")
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return words
		}
		text = text[len(quoted):]
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return words
		}
		words = append(words, word)
	}
	return words
}

func nanoseconds(at string) int64 {
	seconds, micro, _ := strings.Cut(at, ".")
	s, _ := strconv.ParseInt(seconds, 10, 64)
	us, _ := strconv.ParseInt(micro, 10, 64)
	return s*1e9 + us*1e3
}

// expect returns a channel that is closed when the observer sees an ECHO of mark: it has
// then seen all commands that Redis executed before.
func (o *observer) expect(mark string) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	ch := make(chan struct{})
	o.marks[mark] = ch
	return ch
}

func (o *observer) pass(mark string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ch := o.marks[mark]; ch != nil {
		close(ch)
		delete(o.marks, mark)
	}
}

func (o *observer) everybody() {
	// Graflow's own workers write without scripts, so the commands of all clients count.
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = true
}

func (o *observer) looksAtAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}

func (o *observer) missed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gaps > 0 || o.closed
}

// move makes the observer follow another server from now on.
func (o *observer) move(addr string) {
	o.mu.Lock()
	o.addr = addr
	conn := o.conn
	o.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

func (o *observer) close() {
	o.mu.Lock()
	o.closed = true
	conn := o.conn
	o.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
	<-o.done
}
