package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	largeRecord = 1_000_000
	fewSlots    = 8
	withResults = ", and results"
)

func memoryOf(slots int) string { return fmt.Sprintf("memory with 1 MB records, %d slots", slots) }

// memory is how much more a sidecar takes at its largest (VmHWM) than when it was
// idle, over its slots times the size of a record. Every slot has a record of a
// megabyte; with results, every task gives it back as well.
func (b *bench) memory(name string, slots int, how string) func(context.Context) error {
	return func(ctx context.Context) error {
		s, err := start(b.sidecarEnv("MAX_CONCURRENT_TASKS="+strconv.Itoa(slots), goWorker(slots)+how),
			b.program("sidecar"), "run", "--", self())
		if err != nil {
			return err
		}
		defer s.stop()
		if err := b.push(ctx, nil, "warm", 1, recordSize); err != nil {
			return err
		}
		if err := b.awaitCounter(ctx, s, "warm", 1); err != nil {
			return s.explain(err)
		}
		idle := s.own().rss
		n := slots + 48
		if err := b.push(ctx, nil, "load", n, largeRecord); err != nil {
			return err
		}
		if err := b.awaitCounter(ctx, s, "load", n); err != nil {
			return s.explain(err)
		}
		peak, err := s.peak()
		if err != nil {
			return err
		}
		b.results.add(name, "of slots × size", float64(peak-idle)/float64(slots*largeRecord))
		b.results.add(name, "peak MB", float64(peak)/1e6)
		return nil
	}
}

// peak is the most memory that the process itself has had.
func (s *subject) peak() (int64, error) { return s.memoryOf("status", "VmHWM") }

// dirty is the memory that the process itself has written to and shares with no
// other: what a node pays for each sidecar that it runs.
func (s *subject) dirty() (int64, error) { return s.memoryOf("smaps_rollup", "Private_Dirty") }

// memoryOf is one line of a file in /proc/PID, in bytes.
func (s *subject) memoryOf(file, line string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, file))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"+line+":"))
	value, _, _ := strings.Cut(string(rest), "\n")
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
	return kilobytes << 10, err
}
