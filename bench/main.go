// Command bench measures the sidecar beside what limits it and beside its
// peers, all in one run and interleaved, since only ratios within one run mean
// anything on a shared machine. It writes RESULTS.md next to it.
//
// scripts/bench builds what it needs and calls it; see docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() { os.Exit(execute()) } //nolint:forbidigo // nothing is deferred here

func execute() int {
	if role := os.Getenv(roleVariable); role != "" {
		return play(role)
	}
	if addr := os.Getenv(idleVariable); addr != "" {
		return idleAt(addr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// options of the command line.
type options struct {
	rounds int
	only   *regexp.Regexp
	bin    string // folder with the programs that scripts/bench built
	python string // interpreter with Graflow, RQ and Celery
	out    string // folder for RESULTS.md; empty writes none
	quick  bool
	soak   bool
	format bool   // print what benchstat reads
	before string // folder with the sidecar of an earlier commit; empty compares nothing
}

func parse(args []string) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "how often each thing is measured")
	flags.StringVar(&only, "run", "", "measure only what matches this `pattern`, and write no files")
	flags.StringVar(&o.bin, "bin", ".cache/bench", "`folder` with the programs to measure")
	flags.StringVar(&o.python, "python", "python3", "Python interpreter that has graflow, rq and celery")
	flags.StringVar(&o.out, "out", "bench", "`folder` for RESULTS.md")
	flags.BoolVar(&o.soak, "soak", false, "run ten million tasks through one sidecar, and nothing else: does it grow?")
	flags.StringVar(&o.before, "before", "", "compare with the sidecar in this `folder`, in turns, and write no files")
	flags.BoolVar(&o.format, "benchstat", false, "print the samples in the format that benchstat reads, and write no files")
	flags.BoolVar(&o.quick, "quick", false, "a tenth of the tasks: to see that everything works")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if only != "" {
		o.out = ""
	}
	var err1, err2, err3 error
	o.only, err1 = regexp.Compile(only)
	o.bin, err2 = filepath.Abs(o.bin)
	if o.before != "" {
		o.before, err3 = filepath.Abs(o.before)
	}
	return o, errors.Join(err1, err2, err3)
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	// The pages of a program that was just built count as dirty until they are on disk.
	syscall.Sync()
	began := time.Now()
	server, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	b := &bench{options: o, server: server, results: newResults()}
	if o.soak {
		return b.soakTest(ctx)
	}
	list := b.measures()
	if o.before != "" {
		list = b.comparison()
	}
	if err := b.rounds(ctx, list); err != nil {
		return err
	}
	b.results.took = time.Since(began)
	b.results.machine = describeMachine(ctx, server, o)
	if o.format {
		fmt.Print(b.results.benchstat())
		return nil
	}
	if o.before != "" {
		text, worse := b.results.compared(o.rounds)
		fmt.Print(text)
		if worse > 0 {
			return fmt.Errorf("%d figures are worse than is accepted", worse)
		}
		return nil
	}
	text := b.results.markdown(o.rounds)
	fmt.Print(text)
	if o.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(o.out, "RESULTS.md"), []byte(text), 0o644)
}

// bench is one run of this program.
type bench struct {
	options
	server  *redisServer
	results *results
}

// measure is one thing that is measured once a round. It notes what it found.
type measure struct {
	name string
	// needs says why it cannot be measured here; empty if it can.
	needs string
	do    func(ctx context.Context) error
	// once: in the first round only (what takes long and hardly varies).
	once bool
}

// rounds goes through all measures again and again, in turns, so that what else
// the machine does meets all of them alike.
func (b *bench) rounds(ctx context.Context, list []measure) error {
	for round := range b.options.rounds {
		for _, m := range list {
			if !b.only.MatchString(m.name) || m.once && round > 0 {
				continue
			}
			if m.needs != "" {
				b.results.left[m.name] = m.needs
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, b.options.rounds, m.name)
			if err := b.server.empty(ctx); err != nil {
				return err
			}
			within, cancel := context.WithTimeout(ctx, time.Minute)
			err := m.do(within)
			cancel()
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	return nil
}

// count is how many tasks to measure with.
func (b *bench) count(n int) int {
	if b.quick {
		return max(n/10, 20)
	}
	return n
}
