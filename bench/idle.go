package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

// idleVariable makes this program the least that an idle sidecar can be: its value
// is where Redis is.
const idleVariable = "BENCH_IDLE"

// idleFloor looks at a process that says to Redis what an idle sidecar has to, and
// does nothing else at all.
func (b *bench) idleFloor(ctx context.Context) error {
	s, err := start([]string{idleVariable + "=" + b.server.addr()}, self())
	if err != nil {
		return err
	}
	defer s.kill()
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	const span = 4 * time.Second
	cpu := s.cpuNanoseconds()
	if err := sleep(ctx, span); err != nil {
		return err
	}
	cpu = s.cpuNanoseconds() - cpu
	select {
	case <-s.done:
		return s.explain(errEnded)
	default:
	}
	b.results.add(idleBare, "CPU % of a core", float64(cpu)/float64(span.Nanoseconds())*100)
	dirty, err := s.dirty()
	if err != nil {
		return err
	}
	b.results.add(idleBare, privateDirty, float64(dirty)/1e6)
	b.results.add(idleBare, "RSS MB", float64(s.own().rss)/1e6)
	return nil
}

// idleAt renews a lease once a second over one connection and waits for records
// over another, until something fails.
func idleAt(addr string) int {
	failed := make(chan error, 2)
	go func() {
		failed <- saying(addr, nil, "BLMOVE "+prefix+":queue "+prefix+":inbox LEFT RIGHT 2\r\n")
	}()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		failed <- saying(addr, tick.C, "EVAL \"return redis.call('SET', KEYS[1], '1', 'PX', 6000)\" 1 "+prefix+":alive\r\n")
	}()
	fmt.Fprintln(os.Stderr, "bench idle:", <-failed)
	return 1
}

// saying sends a command, and waits for its reply, at each token of when; nil means
// one after the other.
func saying(addr string, when <-chan time.Time, command string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	replies := bufio.NewReader(conn)
	for {
		if when != nil {
			<-when
		}
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte(command)); err != nil {
			return err
		}
		reply, err := replies.ReadString('\n')
		if err != nil {
			return err
		}
		if reply[0] == '-' {
			return fmt.Errorf("redis: %s", reply)
		}
	}
}
