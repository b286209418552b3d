package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// profileBound is how long a test may take in a profile.
const profileBound = 2 * time.Minute

// inner and nested are the parts of a test on a Redis in the process, for a test that runs on
// several, and for one that has cases which do.
const (
	inner  = "$/^model$"
	nested = "$/./^model$"
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
	class   class
}

// class says which tests run first.
type class int

const (
	inProcess class = iota // needs no Redis process
	real                   // needs one
	twin                   // needs one, and has a part that does not and is run before
)

// profile runs all tests up to a class without a change. The result is kept in the cache until the test
// binary changes.
func (s *subject) profile(folder string, last class) ([]test, error) {
	binary, err := os.ReadFile(s.binary)
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(cacheFolder(), fmt.Sprintf("profile-%d-%x.json", min(last, real), sha256.Sum256(binary)))
	var all []measured
	if text, err := os.ReadFile(cache); err == nil && json.Unmarshal(text, &all) == nil {
		return tests(all), nil
	}
	names, err := s.tests()
	if err != nil {
		return nil, err
	}
	var quick, slow []string
	for _, n := range names {
		quick = append(quick, "^"+n+"$", "^"+n+inner, "^"+n+nested)
	}
	bound := func(string) time.Duration { return profileBound }
	r, err := s.run(folder, job{Tests: quick, Profile: true, Parts: s.parts}, bound, noRedis...)
	if err != nil {
		return nil, err
	}
	if len(r.measured) < len(quick) {
		return nil, fmt.Errorf("%s: the profile ended at %s:\n%s", s.dir, r.by, tail(r.output))
	}
	for i, m := range r.measured {
		switch {
		case m.Failed && i%3 == 0:
			slow = append(slow, m.Test)
		case m.Failed:
		case i%3 == 0 || r.measured[i-i%3].Failed: // with the whole test, its parts say nothing new
			all = append(all, m)
		}
	}
	if last > inProcess && len(slow) > 0 {
		r, err := s.run(folder, job{Tests: slow, Profile: true, Parts: s.parts}, bound, realRedis...)
		if err != nil {
			return nil, err
		}
		if len(r.measured) < len(slow) {
			return nil, fmt.Errorf("%s: the profile ended at %s:\n%s", s.dir, r.by, tail(r.output))
		}
		for _, m := range r.measured {
			if m.Failed {
				return nil, fmt.Errorf("%s: %s fails without a mutant:\n%s", s.dir, m.Test, tail(r.output))
			}
			m.Class = real
			if slices.ContainsFunc(all, func(o measured) bool {
				return (o.Test == strings.TrimSuffix(m.Test, "$")+inner || o.Test == strings.TrimSuffix(m.Test, "$")+nested) && len(o.Uses) > 0
			}) {
				m.Class = twin
			}
			all = append(all, m)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return tests(all), os.WriteFile(cache, text, 0o600)
}

func tests(all []measured) []test {
	var list []test
	for _, m := range all {
		t := test{pattern: m.Test, time: m.Time, class: m.Class, uses: map[string]bool{}}
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
