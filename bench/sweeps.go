package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A sweep changes one thing and leaves the others.
const (
	sweepSlots    = "slots"
	sweepChildren = "children"
	sweepSize     = "record size"
	sweepFleet    = "fleet"
	deepQueue     = "queue of a million"
	shallowQueue  = "queue of a thousand"
	besideNone    = "beside none"
	besideIdle    = "beside 50 idle sidecars"
	bigBare       = "1 MB records, bare loop"
	ahead         = "claimed and not started"
)

// What the sweeps change their thing to.
var (
	slotCounts  = []int{1, 4, 16, 64, 256}
	childCounts = []int{1, 2, 4, 8}
	recordSizes = []int{300, 1_000, 10_000, 100_000, 1_000_000}
	fleetSizes  = []int{1, 10, 50}
)

func at(sweep string, value int) string { return fmt.Sprintf("%s %d", sweep, value) }

func (b *bench) sweeps() []measure {
	var list []measure
	add := func(name string, do func(context.Context) error) {
		list = append(list, measure{name: name, do: do})
	}
	for _, n := range slotCounts {
		add(at(sweepSlots, n), b.rate(at(sweepSlots, n), min(30_000, 4_000*n), recordSize, nil, func() (*subject, error) { return b.withGo(n, n) }))
	}
	for _, n := range childCounts {
		add(at(sweepChildren, n), b.rate(at(sweepChildren, n), 30_000, recordSize, nil, func() (*subject, error) { return b.withGo(slots, slots/n) }))
	}
	for _, size := range recordSizes {
		n := max(60, min(30_000, 40_000_000/size))
		add(at(sweepSize, size), b.rate(at(sweepSize, size), n, size, nil, func() (*subject, error) { return b.withGo(slots, slots) }))
	}
	for _, n := range []int{fewSlots, slots} {
		add(memoryOf(n), b.memory(memoryOf(n), n, takesTime))
	}
	list = append(list, measure{
		name: memoryOf(slots) + withResults, do: b.memory(memoryOf(slots)+withResults, slots, givesBack), once: true,
	})
	add(bigBare, b.rate(bigBare, 60, 1_000_000, nil, func() (*subject, error) {
		return b.bare(self())
	}))
	for _, n := range fleetSizes {
		add(at(sweepFleet, n), b.fleet(n))
	}
	add(shallowQueue+", and one of a million", b.backlogs)
	add(besideIdle, b.besideIdle)
	add(ahead, b.ahead)
	return list
}

// fleet is the throughput of many sidecars, of 8 slots each, on one queue.
func (b *bench) fleet(n int) func(context.Context) error {
	name := at(sweepFleet, n)
	return func(ctx context.Context) error {
		all, err := b.startFleet(n, 8)
		if err != nil {
			return err
		}
		defer stopAll(all)
		// All of them are up when each has had a chance at one of these.
		if err := b.push(ctx, nil, "warm", 50*n, recordSize); err != nil {
			return err
		}
		if err := b.awaitCounter(ctx, all[0], "warm", 50*n); err != nil {
			return all[0].explain(err)
		}
		count := b.count(20_000)
		if err := b.refill(ctx, "load", 0, count); err != nil {
			return err
		}
		l, err := b.throughput(ctx, all[0], "load", count)
		if err != nil {
			return all[0].explain(err)
		}
		b.results.add(name, "tasks/s", l.perSecond)
		return nil
	}
}

func (b *bench) startFleet(n, slots int, more ...string) ([]*subject, error) {
	var all []*subject
	for range n {
		env := append(b.sidecarEnv("MAX_CONCURRENT_TASKS="+strconv.Itoa(slots), goWorker(slots)), more...)
		s, err := start(env, b.program("sidecar"), "run", "--", self())
		if err != nil {
			stopAll(all)
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func stopAll(all []*subject) {
	for _, s := range all {
		s.kill()
	}
}

// besideIdle is the rate of one sidecar alone, twice while fifty others wait at the
// same Redis, for records under a prefix of their own, and alone again.
func (b *bench) besideIdle(ctx context.Context) error {
	rate := func(name string) error {
		if err := b.server.emptyOf(ctx, prefix); err != nil {
			return err
		}
		return b.rate(name, 40_000, recordSize, nil, func() (*subject, error) { return b.withGo(slots, slots) })(ctx)
	}
	if err := rate(besideNone); err != nil {
		return err
	}
	all, err := b.startFleet(50, 1, "REDIS_KEY_PREFIX=idle")
	if err != nil {
		return err
	}
	defer stopAll(all)
	for {
		n, err := b.server.client.SCard(ctx, "idle:sidecar:runs").Result()
		if err != nil {
			return err
		}
		if n == 50 {
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	if err := sleep(ctx, time.Second); err != nil { // their start is over
		return err
	}
	if err := errors.Join(rate(besideIdle), rate(besideIdle)); err != nil {
		return err
	}
	stopAll(all)
	return rate(besideNone)
}

// ahead is how long a record is ours before it starts, at full rate: what the
// sidecar says is claimed and not started, over the rate (Little's law).
func (b *bench) ahead(ctx context.Context) error {
	n := b.count(100_000)
	if err := b.refill(ctx, "load", 0, n); err != nil {
		return err
	}
	s, err := b.withGo(slots, slots)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := b.awaitCounter(ctx, s, "load", n/10); err != nil {
		return s.explain(err)
	}
	began := time.Now()
	first, err := b.server.client.Get(ctx, prefix+":barrier:load").Int()
	if err != nil {
		return err
	}
	for last := first; last < n*8/10; {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // it says what is going on, and goes on
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		if last, err = b.server.client.Get(ctx, prefix+":barrier:load").Int(); err != nil {
			return err
		}
	}
	last, err := b.server.client.Get(ctx, prefix+":barrier:load").Int()
	if err != nil {
		return err
	}
	rate := float64(last-first) / time.Since(began).Seconds()
	s.stop() // its log is ours now
	var held []float64
	for _, m := range waiting.FindAllStringSubmatch(s.log.String(), -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return err
		}
		held = append(held, v)
	}
	if len(held) == 0 {
		return s.explain(errors.New("the sidecar said nothing on SIGQUIT"))
	}
	slices.Sort(held)
	b.results.add(ahead, "p99 ms", held[min(len(held)-1, len(held)*99/100)]/rate*1e3)
	b.results.add(ahead, "median ms", held[len(held)/2]/rate*1e3)
	return nil
}

var waiting = regexp.MustCompile(`sidecar: state=.* waiting=(\d+)`)
