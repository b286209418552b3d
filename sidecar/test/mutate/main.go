// Command mutate changes the Lua scripts of sidecar/internal/redis and the conditions of
// the pipeline packages, one at a time, and demands that a fast test fails.
//
// Each package is compiled once, with an overlay of the source tree: the test binary reads
// from a file which mutant is active and which tests to run (see the folder overlay). A
// first run without a mutant finds which test uses what. A mutant gets the tests that may
// notice it, in an order by their time and their success with others; tests that need a
// Redis process come last. A test that takes 20 times as long as without a mutant, and 3 s
// more, has noticed it.
//
// A survivor is an error unless equivalent.txt lists it with a reason, and so is an entry
// of the list that no mutant matches.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/mutate/mutant"
)

// packages are those whose conditions are changed.
var packages = []string{
	"sidecar/internal/pipeline/claim",
	"sidecar/internal/pipeline/dispatch",
	"sidecar/internal/pipeline/lease",
	"sidecar/internal/pipeline/report",
	"sidecar/internal/pipeline/report/spool",
}

type options struct {
	lua, conditions bool
	only            *regexp.Regexp
	sample          int
	seed            uint64
	base            string
	procs           int
	listed, verbose bool
	quick, memory   bool
	own             bool
	keys            map[string]bool
}

func main() {
	var o options
	var only, keys string
	flag.BoolVar(&o.lua, "lua", false, "only the scripts")
	flag.BoolVar(&o.conditions, "go", false, "only the conditions")
	flag.StringVar(&only, "run", "", "only mutants whose `file:line` matches the pattern")
	flag.IntVar(&o.sample, "sample", 0, "only so many mutants, chosen at random")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the sample")
	flag.StringVar(&o.base, "base", "", "only mutants of lines that were changed since the `commit`")
	flag.IntVar(&o.procs, "procs", 2, "number of test processes")
	flag.BoolVar(&o.listed, "listed", false, "also those that "+equivalentFile+" lists")
	flag.StringVar(&keys, "keys", "", "only mutants whose keys are the lines of the `file`")
	flag.BoolVar(&o.memory, "memory", false, "without the tests on a Redis process")
	flag.BoolVar(&o.own, "own", false, "conditions: without the tests of packages that use theirs")
	flag.BoolVar(&o.quick, "quick", false, "without the tests on a Redis process that have a part in memory")
	flag.BoolVar(&o.verbose, "v", false, "print the fate of each mutant")
	flag.Parse()
	if !o.lua && !o.conditions {
		o.lua, o.conditions = true, true
	}
	var err error
	if o.only, err = regexp.Compile(only); err == nil && keys != "" {
		o.keys, err = lines(keys)
	}
	if err == nil {
		err = mutate(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func mutate(o options) error {
	begin := time.Now()
	go machine.Run()
	if err := os.MkdirAll(cacheFolder(), 0o700); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "graflow-sidecar-mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	reasons, err := loadEquivalents()
	if err != nil {
		return err
	}
	subjects, err := subjects()
	if err != nil {
		return err
	}
	app, err := appSubject(subjects[1:])
	if err != nil {
		return err
	}
	users := map[string][]*subject{} // by package: those that use it, nearest first
	for _, s := range subjects[1:] {
		for _, used := range subjects[1:] {
			if s != used && s.imports(used) {
				s.include(used)
				users[used.dir] = append(users[used.dir], s)
			}
		}
	}
	for _, s := range subjects[1:] {
		users[s.dir] = append(users[s.dir], app)
	}
	r := report{reasons: reasons, unused: map[string]bool{}}
	for key := range reasons {
		r.unused[key] = true
	}
	chosen, err := choose(o, subjects, r)
	if err != nil {
		return err
	}
	h := newHunt(folder, o.procs, func(format string, args ...any) {
		if o.verbose {
			fmt.Printf(format+"\n", args...)
		}
	})
	h.last = twin
	switch {
	case o.memory:
		h.last = inProcess
	case o.quick:
		h.last = real
	}
	for i, s := range subjects {
		if len(chosen[i]) == 0 {
			continue
		}
		killers := []*subject{s}
		if i > 0 && !o.own {
			killers = append(killers, users[s.dir]...)
		}
		fates, err := h.all(chosen[i], killers...)
		if err != nil {
			return err
		}
		r.add(fates)
		if err := h.save(); err != nil {
			return err
		}
	}
	return r.print(time.Since(begin))
}

// subjects returns all packages, with the scripts first.
func subjects() ([]*subject, error) {
	s, err := luaSubject()
	all, errs := []*subject{s}, []error{err}
	for _, p := range packages {
		s, err := goSubject(p)
		all, errs = append(all, s), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// choose returns the mutants of each subject that are run.
func choose(o options, subjects []*subject, r report) ([][]candidate, error) {
	changed, err := changedLines(o.base)
	if err != nil {
		return nil, err
	}
	type place struct{ subject, mutant int }
	var all []place
	for i, s := range subjects {
		for j, c := range s.mutants {
			delete(r.unused, c.Key())
			_, listed := r.reasons[c.Key()]
			if o.wants(c.Mutant) && (!listed || o.listed) && (changed == nil || changed[c.File][c.Line]) {
				all = append(all, place{i, j})
			}
		}
	}
	if o.sample > 0 && o.sample < len(all) {
		fmt.Printf("sample of %d of %d mutants, seed %d\n", o.sample, len(all), o.seed)
		random := rand.New(rand.NewPCG(o.seed, 0))
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:o.sample]
		slices.SortFunc(all, func(a, b place) int {
			if a.subject != b.subject {
				return a.subject - b.subject
			}
			return a.mutant - b.mutant
		})
	}
	chosen := make([][]candidate, len(subjects))
	for _, p := range all {
		chosen[p.subject] = append(chosen[p.subject], subjects[p.subject].mutants[p.mutant])
	}
	return chosen, nil
}

func (o options) wants(m mutant.Mutant) bool {
	if o.keys != nil && !o.keys[m.Key()] {
		return false
	}
	part := o.conditions
	if strings.HasSuffix(m.File, ".lua") {
		part = o.lua
	}
	return part && o.only.MatchString(fmt.Sprintf("%s:%d", m.File, m.Line))
}

// lines returns the lines of a file.
func lines(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		all[strings.TrimSpace(line)] = true
	}
	return all, nil
}

// hunk is the head of a hunk of a diff without context: its lines in the new file.
var hunk = regexp.MustCompile(`^@@ -\S+ \+(\d+)(?:,(\d+))? @@`)

// changedLines returns by file the lines that were changed since a commit, nil for all.
func changedLines(base string) (map[string]map[int]bool, error) {
	if base == "" {
		return nil, nil
	}
	cmd := exec.Command("git", "diff", "-U0", "--no-ext-diff", base, "--", "sidecar/internal")
	cmd.Dir = build.Root()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git diff %s: %w", base, err)
	}
	lines, file := map[string]map[int]bool{}, ""
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "+++ b/"); ok {
			file = strings.TrimSpace(name)
			lines[file] = map[int]bool{}
		} else if m := hunk.FindStringSubmatch(line); m != nil && file != "" {
			first, _ := strconv.Atoi(m[1])
			n := 1
			if m[2] != "" {
				n, _ = strconv.Atoi(m[2])
			}
			for i := range n {
				lines[file][first+i] = true
			}
		}
	}
	return lines, nil
}
