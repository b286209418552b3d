package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// profileBound is how long a test may take in a profile.
const profileBound = 2 * time.Minute

// inner and nested are the parts of a test on a Redis in the process, for a test that runs on
// several, and for one that has cases which do.
const (
	inner  = "$/^model(#[0-9]+)?$"
	nested = "$/./^model(#[0-9]+)?$"
)

// noRedis makes a test fail that needs a Redis process, so that a profile finds these tests.
var noRedis = []string{"REDISTEST=process", "REDISTEST_BINARY=/nonexistent"}

// realRedis saves the search for a container.
var realRedis = []string{"REDISTEST=process"}

// test is a pattern of one test, and what it used when nothing was changed.
type test struct {
	pattern string
	time    time.Duration
	uses    map[string]bool
}

// class says which tests run first.
type class int

const (
	inProcess class = iota // needs no Redis process
	real                   // needs one
	twin                   // needs one, and has a part that does not and is run before
)

// profile returns the tests of a class, with what they use. The first call for a class that
// is not in the cache compiles the package and runs its tests without a mutant.
func (s *subject) profile(folder string, c class) ([]test, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.binary == "" {
		if err := s.compile(folder); err != nil {
			return nil, err
		}
	}
	memory, err := s.cached(inProcess, func() ([]measured, error) { return s.inMemory(folder) })
	if err != nil || c == inProcess {
		return tests(memory, c), err
	}
	onRedis, err := s.cached(real, func() ([]measured, error) { return s.onRedis(folder, memory) })
	return tests(onRedis, c), err
}

// cached returns a profile from memory, from the cache, or as measured now.
func (s *subject) cached(c class, measure func() ([]measured, error)) ([]measured, error) {
	if all, ok := s.profiles[c]; ok {
		return all, nil
	}
	binary, err := os.ReadFile(s.binary)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(cacheFolder(), fmt.Sprintf("profile-%d-%x.json", c, sha256.Sum256(binary)))
	var all []measured
	if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &all) != nil {
		begin := time.Now()
		if all, err = measure(); err != nil {
			return nil, err
		}
		fmt.Printf("%s: %d tests ran without a mutant, in %.0f s\n", s.dir, len(all), time.Since(begin).Seconds())
		text, err := json.Marshal(all)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
	}
	s.profiles[c] = all
	return all, nil
}

// inMemory runs all tests without a Redis process. Those that need one have failed.
func (s *subject) inMemory(folder string) (all []measured, err error) {
	names, err := s.tests()
	if err != nil {
		return nil, err
	}
	var patterns [][]string
	for _, n := range names {
		patterns = append(patterns, []string{"^" + n + "$", "^" + n + inner, "^" + n + nested})
	}
	ran, err := s.measure(folder, patterns, noRedis)
	if err != nil {
		return nil, err
	}
	for i, m := range ran {
		whole := ran[i-i%3]
		if m.Test == whole.Test || whole.Failed && !m.Failed { // with the whole test, its parts say nothing new
			all = append(all, m)
		}
	}
	return all, nil
}

// onRedis runs the tests that have failed in memory.
func (s *subject) onRedis(folder string, memory []measured) ([]measured, error) {
	parts := map[string]bool{}
	var patterns [][]string
	for _, m := range memory {
		parts[m.Test] = len(m.Uses) > 0
		if m.Failed {
			patterns = append(patterns, []string{m.Test})
		}
	}
	if len(patterns) == 0 {
		return nil, nil
	}
	all, err := s.measure(folder, patterns, realRedis)
	for i := range all {
		m := &all[i]
		if m.Failed {
			return nil, fmt.Errorf("%s: %s fails without a mutant", s.dir, m.Test)
		}
		m.Class = real
		if name := strings.TrimSuffix(m.Test, "$"); parts[name+inner] || parts[name+nested] {
			m.Class = twin
		}
	}
	return all, err
}

// measure runs tests without a mutant, in two processes. The patterns of one test are run and
// returned one after another.
func (s *subject) measure(folder string, patterns [][]string, env []string) ([]measured, error) {
	bound := func(string) time.Duration { return profileBound }
	var shares [2][]string
	for i, p := range patterns {
		shares[i%2] = append(shares[i%2], p...)
	}
	var results [2]result
	var errs [2]error
	var processes sync.WaitGroup
	for i, share := range shares {
		if len(share) == 0 {
			continue
		}
		processes.Go(func() {
			r, err := s.run(folder, job{Tests: share, Profile: true, Parts: s.parts}, bound, env...)
			if err == nil && len(r.measured) < len(share) {
				err = fmt.Errorf("%s: the profile ended at %s:\n%s", s.dir, r.by, tail(r.output))
			}
			results[i], errs[i] = r, err
		})
	}
	processes.Wait()
	return append(results[0].measured, results[1].measured...), errors.Join(errs[:]...)
}

// tests returns the tests of a class that use something that has mutants.
func tests(all []measured, c class) []test {
	var list []test
	for _, m := range all {
		if m.Failed || m.Class != c {
			continue
		}
		t := test{pattern: m.Test, time: m.Time, uses: map[string]bool{}}
		for _, u := range m.Uses {
			t.uses[u] = true
		}
		if len(t.uses) > 0 {
			list = append(list, t)
		}
	}
	return list
}

// cacheFolder has what further runs may use, and nothing that they need.
func cacheFolder() string { return build.Root(".cache", "mutate") }

func tail(text string) string {
	if len(text) > 4000 {
		return "…" + text[len(text)-4000:]
	}
	return text
}
