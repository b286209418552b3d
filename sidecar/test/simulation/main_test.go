//go:build simulation

package simulation

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/simnet"
)

// Environment variables of a run. The first four are those of make simulate.
const (
	seedVariable    = "SIMULATE_SEED"    // replay this one
	secondsVariable = "SIMULATE_SECONDS" // new seeds for that time; default 30
	timesVariable   = "SIMULATE_TIMES"   // how often to replay
	fromVariable    = "SIMULATE_FROM"    // the first new seed, up to the first one that fails
	firstVariable   = "SIMULATE_FIRST"   // a child's first seed, and the step to its next
	untilVariable   = "SIMULATE_UNTIL"   // when a child ends, in seconds since 1970
)

func number64(variable string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(os.Getenv(variable), 10, 63)
	if err != nil {
		return otherwise
	}
	return n
}

// TestSimulate replays the seed of SIMULATE_SEED, or runs new seeds for a time, in a process
// for each processor: goroutines of one process cannot use two without losing the order that
// makes a replay similar.
func TestSimulate(t *testing.T) {
	if os.Getenv(seedVariable) != "" {
		replay(t, number64(seedVariable, 0), int(number64(timesVariable, 1)))
		return
	}
	began := time.Now()
	first := number64(fromVariable, rand.Uint64N(1e9))
	until := began.Add(time.Duration(number64(secondsVariable, 30)) * time.Second)
	fmt.Printf("first seed %d\n", first)
	var total summary
	var wg sync.WaitGroup
	all, stop := context.WithCancel(t.Context())
	defer stop()
	n := runtime.NumCPU()
	for i := range n {
		wg.Go(func() { runChild(t, all, stop, first+uint64(i), n, until, &total) })
	}
	wg.Wait()
	total.print(time.Since(began))
	if total.hours() > coverageAfter {
		if never := total.never(); len(never) > 0 {
			t.Errorf("these never happened in %.0f fleet hours: %s", total.hours(), strings.Join(never, ", "))
		}
	}
	for _, r := range total.failed {
		r.print(os.Stdout)
		t.Errorf("seed %d broke %d promises", r.Seed, len(r.Violations))
	}
}

// coverageAfter is the number of fleet hours after which every fault and every behaviour
// has to have happened.
const coverageAfter = 20

// replay runs one seed, several times to see how alike the replays are.
func replay(t *testing.T, seed uint64, times int) {
	redis.SetLogger(nil)
	runtime.GOMAXPROCS(1) // as in a run of many seeds
	failed := 0
	hashes := map[uint64]int{}
	for range times {
		began := time.Now()
		r := runSeed(t, seed, breakage{})
		hashes[r.Hash]++
		fmt.Printf("seed %d: %v of a fleet of %d in %v, %d tasks, %d starts, %d violations, history %016x\n",
			seed, r.Virtual.Round(time.Second), r.Sidecars, time.Since(began).Round(time.Millisecond), r.Tasks, r.Starts, len(r.Violations), r.Hash)
		if len(r.Violations) > 0 {
			failed++
			r.print(os.Stdout)
			t.Errorf("seed %d broke %d promises", r.Seed, len(r.Violations))
		}
	}
	if times > 1 {
		fmt.Printf("%d replays had %d different histories, %d failed\n", times, len(hashes), failed)
	}
}

// TestSeeds is a child of TestSimulate: it runs seeds until a time and prints a line for the
// beginning and the result of each.
func TestSeeds(t *testing.T) {
	text := os.Getenv(firstVariable)
	if text == "" {
		t.Skip("a child of TestSimulate")
	}
	redis.SetLogger(nil)
	var seed, step uint64
	if _, err := fmt.Sscan(text, &seed, &step); err != nil {
		t.Fatal(err)
	}
	until := time.Unix(int64(number64(untilVariable, 0)), 0)
	for ; time.Now().Before(until); seed += step {
		fmt.Printf("%s%d\n", beginMark, seed)
		line, err := json.Marshal(runSeed(t, seed, breakage{}))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s%s\n", resultMark, line)
	}
}

const (
	beginMark  = "simulation begins: "
	resultMark = "simulation result: "
)

// runChild runs seeds in another process, and begins a new one behind a seed that ended its
// process: by a panic, by a deadlock of all goroutines, or because it went on for too long.
// stop ends all children, by the end of all.
func runChild(t *testing.T, all context.Context, stop func(), first uint64, step int, until time.Time, total *summary) {
	for next := first; time.Now().Before(until) && all.Err() == nil; {
		seed, running, output := next, false, []string{}
		ctx, cancel := context.WithCancel(all)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestSeeds$", "-test.timeout", "0")
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=800", "GOMEMLIMIT=600MiB", fmt.Sprintf("%s=%d %d", firstVariable, next, step), fmt.Sprintf("%s=%d", untilVariable, until.Unix()))
		out, err := cmd.StdoutPipe()
		if err == nil {
			cmd.Stderr = cmd.Stdout
			err = cmd.Start()
		}
		if err != nil {
			cancel()
			t.Error(err)
			return
		}
		watchdog := time.AfterFunc(hangsAfter, cancel)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			line := lines.Text()
			if text, ok := strings.CutPrefix(line, beginMark); ok {
				seed, _ = strconv.ParseUint(text, 10, 64)
				running = true
				watchdog.Reset(hangsAfter)
				output = output[:0]
			} else if text, ok := strings.CutPrefix(line, resultMark); ok {
				var r result
				if err := json.Unmarshal([]byte(text), &r); err != nil {
					t.Error(err)
				}
				running = false
				total.add(&r)
				if os.Getenv(fromVariable) != "" && len(r.Violations) > 0 {
					stop()
				}
			} else if len(output) < 400 {
				output = append(output, line)
			}
		}
		err = cmd.Wait()
		total.used(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
		watchdog.Stop()
		cancel()
		if all.Err() != nil {
			return
		}
		if !running {
			if err != nil {
				t.Errorf("a child ended: %v\n%s", err, strings.Join(output, "\n"))
				return
			}
			continue
		}
		total.add(&result{Seed: seed, Violations: []string{fmt.Sprintf("its process ended: %v", err)}, Story: strings.Join(output[:min(len(output), 60)], "\n")})
		next = seed + uint64(step)
	}
}

// hangsAfter is how long one seed may take. The longest take seconds.
const hangsAfter = 10 * time.Minute

// summary is what all seeds of a run gave.
type summary struct {
	mu       sync.Mutex
	seeds    int
	fleet    time.Duration
	sidecars time.Duration
	cpu      time.Duration
	tasks    int
	starts   int
	counts   map[string]int
	failed   []*result
	second   linear.Result
}

func (s *summary) add(r *result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeds++
	s.fleet += r.Virtual
	s.sidecars += r.Virtual * time.Duration(r.Sidecars)
	s.tasks += r.Tasks
	s.starts += r.Starts
	s.second.Add(&r.Second)
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	for kind, n := range r.Counts {
		s.counts[kind] += n
	}
	if len(r.Violations) > 0 {
		s.failed = append(s.failed, r)
	}
}

func (s *summary) used(cpu time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cpu += cpu
}

func (s *summary) hours() float64 { return s.fleet.Hours() }

func (s *summary) print(took time.Duration) {
	for _, kind := range slices.Sorted(maps.Keys(s.counts)) {
		if !strings.HasPrefix(kind, "over: ") && kind != "thawed" {
			fmt.Printf("%8d  %s\n", s.counts[kind], kind)
		}
	}
	fmt.Printf("%d seeds, %.1f fleet hours (%.1f sidecar hours), %d tasks, %d starts in %.0f s and %.0f processor seconds; %d seeds failed\n",
		s.seeds, s.hours(), s.sidecars.Hours(), s.tasks, s.starts, took.Seconds(), s.cpu.Seconds(), len(s.failed))
	fmt.Println(&s.second)
	for _, u := range s.second.Unknown {
		fmt.Printf("  unknown: %s\n", u)
	}
	const twoFor10Minutes = 1200 // processor seconds
	fmt.Printf("rate: %.0f fleet hours in 10 minutes as it was, %.0f with two processors to itself\n", s.hours()/took.Minutes()*10, s.hours()/s.cpu.Seconds()*twoFor10Minutes)
}

// never returns the faults and behaviours that have not happened.
func (s *summary) never() (list []string) {
	want := []string{string(killsAt), string(freezesAt), string(delaysAt), "probe"}
	for _, f := range driven {
		want = append(want, string(f))
	}
	for _, f := range simnet.Faults() {
		want = append(want, "request: "+string(f))
	}
	for _, b := range append([]behaviour{works, asksChannel, enqueues, nests}, bad...) {
		want = append(want, "worker: "+string(b))
	}
	for _, kind := range want {
		if s.counts[kind] == 0 {
			list = append(list, kind)
		}
	}
	return list
}
