package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// fast is how long a test may take, without a mutant, to be run against mutants.
const fast = 3 * time.Second

// hunt runs the tests against mutants.
type hunt struct {
	folder string
	procs  int
	last   class // of the tests that run
	say    func(format string, args ...any)

	mu    sync.Mutex
	kills map[string]string // by key: the test that noticed the mutant, from earlier runs, too
	count map[string]int    // by test: mutants of this run
}

// fate is what became of a mutant.
type fate struct {
	candidate
	by   string // the test that noticed it; "" if none did
	hung bool
}

func killsFile() string { return filepath.Join(cacheFolder(), "kills.json") }

func newHunt(folder string, procs int, say func(string, ...any)) *hunt {
	h := &hunt{folder: folder, procs: procs, say: say, kills: map[string]string{}, count: map[string]int{}}
	if text, err := os.ReadFile(killsFile()); err == nil {
		_ = json.Unmarshal(text, &h.kills) // without it, tests have another order
	}
	return h
}

// save keeps which test noticed which mutant.
func (h *hunt) save() error {
	text, err := json.Marshal(h.kills)
	if err != nil {
		return err
	}
	return os.WriteFile(killsFile(), text, 0o600)
}

// all returns the fates of mutants, in their order. The tests of the subjects run one after
// another.
func (h *hunt) all(mutants []candidate, subjects ...*subject) ([]fate, error) {
	fates := make([]fate, len(mutants))
	errs := make([]error, len(mutants))
	next := make(chan int)
	var workers sync.WaitGroup
	for range h.procs {
		workers.Go(func() {
			for i := range next {
				for _, s := range subjects {
					fates[i], errs[i] = h.one(s, mutants[i])
					if fates[i].by != "" || errs[i] != nil {
						break
					}
				}
				h.tell(fates[i])
			}
		})
	}
	for i := range mutants {
		next <- i
	}
	close(next)
	workers.Wait()
	return fates, errors.Join(errs...)
}

// one runs the tests against one mutant: those that may notice it, likely and fast ones
// first, and those that need a Redis process last.
func (h *hunt) one(s *subject, c candidate) (fate, error) {
	f := fate{candidate: c}
	for class := inProcess; class <= h.last; class++ {
		tests, err := s.profile(h.folder, class)
		if err != nil {
			return f, err
		}
		list, times := h.order(c, tests)
		if len(list) == 0 {
			continue
		}
		env := realRedis
		if class == inProcess {
			env = noRedis
		}
		bound := func(test string) time.Duration { return 3*time.Second + 20*times[test] }
		j := job{Tests: list, Package: c.pkg(), Mutant: c.id, Script: c.script, Changed: c.changed}
		r, err := s.run(h.folder, j, bound, env...)
		if err != nil {
			return f, err
		}
		// A Redis process may stumble over a busy machine: a second failure confirms the first.
		if r.failed && class > inProcess && times[r.by] > 0 {
			j.Tests = []string{r.by}
			if r, err = s.run(h.folder, j, bound, env...); err != nil {
				return f, err
			}
		}
		if r.failed {
			f.by, f.hung = r.by, r.hung
			h.mu.Lock()
			h.kills[c.Key()] = r.by
			h.count[r.by]++
			h.mu.Unlock()
			return f, nil
		}
	}
	return f, nil
}

// tell prints a fate as soon as it is known.
func (h *hunt) tell(f fate) {
	if f.by == "" {
		h.say("survived: line %d: %s", f.Line, f.Key())
	} else {
		h.say("killed:   line %d: %s (by %s)", f.Line, f.Key(), f.by)
	}
}

// order returns the patterns of the tests that may notice the mutant, and their times.
func (h *hunt) order(c candidate, tests []test) ([]string, map[string]time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.kills[c.Key()]
	times := map[string]time.Duration{}
	cost := map[string]float64{}
	var list []string
	for _, t := range tests {
		if t.time > fast || !t.uses[c.use()] {
			continue
		}
		list = append(list, t.pattern)
		times[t.pattern] = t.time
		cost[t.pattern] = t.time.Seconds() / float64(1+h.count[t.pattern])
		if t.pattern == before {
			cost[t.pattern] = 0
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(cost[a], cost[b]) })
	return list, times
}
