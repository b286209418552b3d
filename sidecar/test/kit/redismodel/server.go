package redismodel

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server serves a [DB] on connections. It works in a bubble of testing/synctest: it waits
// on channels and timers only, and holds its mutex for the length of a command.
type Server struct {
	mu      sync.Mutex
	db      *DB
	conns   map[int64]*conn
	lastID  int64
	waiting []*conn       // connections that block, in the order of their commands
	frozen  chan struct{} // closed by Thaw; nil unless frozen

	// OutputLimit is the number of bytes of unsent replies at which the server closes a
	// connection, as client-output-buffer-limit does; 0 is no limit. It is set before the
	// first connection.
	OutputLimit int
}

// NewServer returns a server for a database.
func NewServer(db *DB) *Server {
	s := &Server{db: db, conns: make(map[int64]*conn)}
	db.publish = s.publish
	return s
}

// With calls f with the database while no command runs. Commands that wait for a key are
// served afterwards.
func (s *Server) With(f func(db *DB)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.db)
	s.db.refresh()
	s.serveWaiting()
}

// Do runs a command between those of the connections.
func (s *Server) Do(args ...string) (r Reply) {
	s.With(func(db *DB) { r = db.Do(args...) })
	return r
}

// Freeze stops the execution of commands until Thaw. Connections stay open.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozen = make(chan struct{})
	}
}

// Thaw ends a Freeze.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
}

// CloseConns closes all connections, as the end of the server's process does.
func (s *Server) CloseConns() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.conns))
	s.mu.Unlock()
	for _, c := range all {
		c.close()
	}
}

// conn is one connection. Three goroutines serve it: one reads commands, one runs them,
// one sends replies.
type conn struct {
	s    *Server
	id   int64
	nc   net.Conn
	name string
	resp int // version of the protocol

	done     chan struct{} // closed with the connection
	once     sync.Once
	commands chan []string

	out   outbox
	multi [][]string // the commands of a transaction; nil without one
	dirty bool       // a command of the transaction was refused

	channels map[string]bool // subscriptions
	blocked  []string        // the command that blocks; nil without one
	answer   chan Reply      // its reply
}

// ServeConn serves a connection until it ends, and closes it.
func (s *Server) ServeConn(nc net.Conn) {
	c := &conn{s: s, nc: nc, resp: 2, done: make(chan struct{}), commands: make(chan []string), channels: make(map[string]bool), answer: make(chan Reply, 1)}
	c.out.ready = make(chan struct{}, 1)
	s.mu.Lock()
	s.lastID++
	c.id = s.lastID
	s.conns[c.id] = c
	s.mu.Unlock()
	var all sync.WaitGroup
	all.Go(c.read)
	all.Go(c.write)
	c.execute()
	c.close()
	all.Wait()
}

func (c *conn) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.nc.Close() // the other side sees it
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		delete(c.s.conns, c.id)
		c.s.waiting = slices.DeleteFunc(c.s.waiting, func(w *conn) bool { return w == c })
	})
}

func (c *conn) read() {
	r := bufio.NewReaderSize(c.nc, 16<<10)
	defer close(c.commands)
	for {
		args, err := readCommand(r, c.s.maxBulk)
		if refused, ok := errors.AsType[protocolError](err); ok {
			args, err = []string{"", string(refused)}, nil // execute ends the connection behind the replies before
		}
		if err != nil {
			c.close()
			return
		}
		if len(args) == 0 {
			continue
		}
		select {
		case c.commands <- args:
		case <-c.done:
			return
		}
		if args[0] == "" {
			return
		}
	}
}

func (s *Server) maxBulk() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := parseInt(s.db.config["proto-max-bulk-len"])
	if !ok || n <= 0 {
		return 512 << 20
	}
	return n
}

func (c *conn) execute() {
	for args := range c.commands {
		if args[0] == "" {
			c.send(failed(args[1]))
			c.out.finish()
			<-c.done
			return
		}
		if !c.s.awaitThaw(c.done) {
			return
		}
		c.s.mu.Lock()
		r := c.run(args)
		c.s.db.refresh()
		if r.is(block) {
			c.blocked = args
			c.s.waiting = append(c.s.waiting, c)
		}
		c.s.serveWaiting()
		if !r.is(block) {
			c.send(r)
		}
		c.s.mu.Unlock()
		if r.is(block) && !c.wait(args[len(args)-1]) {
			return
		}
		if strings.EqualFold(args[0], "QUIT") {
			c.out.finish()
			<-c.done
			return
		}
	}
}

func (s *Server) awaitThaw(done <-chan struct{}) bool {
	for {
		s.mu.Lock()
		frozen := s.frozen
		s.mu.Unlock()
		if frozen == nil {
			return true
		}
		select {
		case <-frozen:
		case <-done:
			return false
		}
	}
}

// wait waits for the reply of a command that blocks. It returns false if the connection
// has ended.
func (c *conn) wait(timeout string) bool {
	var expired <-chan time.Time
	if seconds, _ := parseFloat(timeout); seconds > 0 {
		t := time.NewTimer(time.Duration(seconds * float64(time.Second)))
		defer t.Stop()
		expired = t.C
	}
	select {
	case r := <-c.answer:
		c.send(r)
		return true
	case <-c.done:
		return false
	case <-expired:
	}
	if !c.s.awaitThaw(c.done) {
		return false
	}
	c.s.mu.Lock()
	c.s.unblock(c, nilReply)
	c.s.mu.Unlock()
	c.send(<-c.answer)
	return true
}

// unblock ends the wait of a connection with a reply, unless it has one already.
func (s *Server) unblock(c *conn, r Reply) bool {
	if c.blocked == nil {
		return false
	}
	c.blocked = nil
	s.waiting = slices.DeleteFunc(s.waiting, func(w *conn) bool { return w == c })
	c.answer <- r
	return true
}

// serveWaiting runs the blocked commands whose key has become available, the longest
// wait first.
func (s *Server) serveWaiting() {
	for again := true; again; {
		again = false
		for _, c := range s.waiting {
			if v := s.db.keys[c.blocked[1]]; v != nil && v.kind == List {
				s.unblock(c, s.db.do(c.blocked))
				again = true // the move may serve a wait for its destination
				break
			}
		}
	}
}

// run runs a command: one that concerns the connection here, the others on the database.
func (c *conn) run(args []string) Reply {
	name := strings.ToUpper(args[0])
	if c.multi != nil && name != "EXEC" && name != "DISCARD" && name != "MULTI" {
		if known, refusal := c.s.db.check(args); known == nil {
			c.dirty = true
			return refusal
		}
		c.multi = append(c.multi, args)
		return Reply{Kind: Status, Text: "QUEUED"}
	}
	switch name {
	case "MULTI":
		if c.multi != nil {
			return failed("ERR MULTI calls can not be nested")
		}
		c.multi, c.dirty = [][]string{}, false
		return okReply
	case "EXEC", "DISCARD":
		return c.exec(name)
	case "SUBSCRIBE", "UNSUBSCRIBE":
		return c.subscribe(name, args[1:])
	case "PING":
		if len(c.channels) > 0 && c.resp == 2 {
			return Reply{Kind: push3, Array: []Reply{bulk("pong"), bulk(strings.Join(args[1:], ""))}}
		}
	case "HELLO":
		return c.hello(args[1:])
	case "CLIENT":
		return c.client(args)
	case "AUTH", "SELECT", "QUIT", "READONLY", "READWRITE", "RESET":
		return okReply
	}
	return c.s.db.do(args)
}

func (c *conn) exec(name string) Reply {
	queued := c.multi
	c.multi = nil
	switch {
	case queued == nil:
		return failed("ERR " + name + " without MULTI")
	case name == "DISCARD":
		return okReply
	case c.dirty:
		return failed("EXECABORT Transaction discarded because of previous errors.")
	}
	list := make([]Reply, len(queued))
	for i, args := range queued {
		list[i] = c.s.db.Do(args...)
	}
	return array(list...)
}

func (c *conn) hello(args []string) Reply {
	if len(args) > 0 {
		version, err := strconv.Atoi(args[0])
		if err != nil || version < 2 || version > 3 {
			return failed("NOPROTO unsupported protocol version")
		}
		c.resp = version
		for i := 1; i < len(args); i++ {
			switch strings.ToUpper(args[i]) {
			case "AUTH":
				i += 2
			case "SETNAME":
				i++
				if i < len(args) {
					c.name = args[i]
				}
			}
		}
	}
	return Reply{Kind: Map, Array: []Reply{
		bulk("server"), bulk("redis"), bulk("version"), bulk("7.0.15"), bulk("proto"), integer(c.resp),
		bulk("id"),
		{Kind: Int, Int: c.id},
		bulk("mode"), bulk("standalone"), bulk("role"), bulk("master"), bulk("modules"), array(),
	}}
}

func (c *conn) client(args []string) Reply {
	if len(args) < 2 {
		return arityError("client")
	}
	switch sub := strings.ToUpper(args[1]); {
	case sub == "ID":
		return Reply{Kind: Int, Int: c.id}
	case sub == "SETNAME" && len(args) == 3:
		c.name = args[2]
		return okReply
	case sub == "GETNAME":
		return bulk(c.name)
	case sub == "UNBLOCK" && len(args) >= 3:
		id, ok := parseInt(args[2])
		if !ok {
			return failed(errInteger)
		}
		r := nilReply
		if len(args) == 4 && strings.EqualFold(args[3], "ERROR") {
			r = failed("UNBLOCKED client unblocked via CLIENT UNBLOCK")
		}
		other := c.s.conns[id]
		return boolean(other != nil && c.s.unblock(other, r))
	case sub == "LIST":
		var b strings.Builder
		for _, id := range slices.Sorted(maps.Keys(c.s.conns)) {
			b.WriteString("id=" + strconv.FormatInt(id, 10) + " name=" + c.s.conns[id].name + "\n")
		}
		return bulk(b.String())
	default:
		return unknownSubcommand(args)
	}
}

func (c *conn) subscribe(name string, channels []string) Reply {
	if name == "UNSUBSCRIBE" && len(channels) == 0 {
		channels = slices.Sorted(maps.Keys(c.channels))
	}
	for _, channel := range channels {
		if name == "SUBSCRIBE" {
			c.channels[channel] = true
		} else {
			delete(c.channels, channel)
		}
		c.send(Reply{Kind: push3, Array: []Reply{bulk(strings.ToLower(name)), bulk(channel), integer(len(c.channels))}})
	}
	if len(channels) == 0 {
		c.send(Reply{Kind: push3, Array: []Reply{bulk("unsubscribe"), nilReply, integer(0)}})
	}
	return Reply{Kind: none}
}

func (s *Server) publish(channel, message string) int {
	n := 0
	for _, id := range slices.Sorted(maps.Keys(s.conns)) {
		if c := s.conns[id]; c.channels[channel] {
			c.send(Reply{Kind: push3, Array: []Reply{bulk("message"), bulk(channel), bulk(message)}})
			n++
		}
	}
	return n
}

// outbox has the replies of a connection that are not sent yet.
type outbox struct {
	mu    sync.Mutex
	bytes []byte
	last  bool          // the connection ends behind these
	ready chan struct{} // has a token if there may be some
}

func (o *outbox) signal() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

func (o *outbox) finish() {
	o.mu.Lock()
	o.last = true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) take() (b []byte, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, o.bytes = o.bytes, nil
	return b, o.last
}

func (c *conn) send(r Reply) {
	c.out.mu.Lock()
	c.out.bytes = appendReply(c.out.bytes, r, c.resp)
	size := len(c.out.bytes)
	c.out.mu.Unlock()
	if c.s.OutputLimit > 0 && size > c.s.OutputLimit {
		go c.close() // not here: the mutex of the server may be held
		return
	}
	c.out.signal()
}

func (c *conn) write() {
	for {
		select {
		case <-c.out.ready:
		case <-c.done:
			return
		}
		b, last := c.out.take()
		if len(b) > 0 {
			if _, err := c.nc.Write(b); err != nil {
				if !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, net.ErrClosed) {
					_ = c.nc.Close()
				}
				c.close()
				return
			}
		}
		if last {
			c.close()
			return
		}
	}
}
