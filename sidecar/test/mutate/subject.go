package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/mutate/gomutant"
	"github.com/graflow/graflow-sidecar/sidecar/test/mutate/luamutant"
	"github.com/graflow/graflow-sidecar/sidecar/test/mutate/mutant"
)

const module = "github.com/graflow/graflow-sidecar"

//go:embed overlay
var overlayFiles embed.FS

// subject is a package whose tests have to notice mutants, and its test binary.
type subject struct {
	dir     string // below the repository
	mutants []candidate
	parts   map[string]string // text of each script, by path

	overlay map[string]string // by path below the repository

	mu       sync.Mutex // guards what follows, while it is made
	binary   string     // the test binary; "" until it is needed
	profiles map[class][]measured
}

func newSubject(dir string) *subject {
	return &subject{dir: dir, overlay: map[string]string{}, parts: map[string]string{}, profiles: map[class][]measured{}}
}

// candidate is a mutant and what the test binary needs to activate it.
type candidate struct {
	mutant.Mutant
	id              int    // of a condition
	script, changed string // of a script
}

// pkg is the import path of the mutant's package.
func (c candidate) pkg() string { return path.Join(module, path.Dir(c.File)) }

// use is what tests have to use so that they can notice the mutant.
func (c candidate) use() string {
	if c.script != "" {
		return c.pkg() + " " + c.File
	}
	return fmt.Sprint(c.pkg(), " ", c.id)
}

// luaSubject is the package of the scripts.
func luaSubject() (*subject, error) {
	s := newSubject("sidecar/internal/redis")
	files, err := filepath.Glob(build.Root(s.dir, "*.lua"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name := path.Join(s.dir, filepath.Base(file))
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		mutants, err := luamutant.Of(name, string(text))
		if err != nil {
			return nil, err
		}
		s.parts[name] = string(text)
		for _, m := range mutants {
			s.mutants = append(s.mutants, candidate{Mutant: m, script: string(text), changed: m.Apply(string(text))})
		}
	}
	// Scripts are made when they are called, with the change of the mutant.
	const once = "sync.OnceValue(func() *goredis.Script { return goredis.NewScript(first + strings.Join(parts, \"\")) })"
	store := path.Join(s.dir, "store.go")
	if err := s.replace(store, once, "func() *goredis.Script { return mutateScript(first + strings.Join(parts, \"\")) }"); err != nil {
		return nil, err
	}
	return s, s.add("script.go.txt")
}

// goSubject is the package with the conditions of its files.
func goSubject(dir string) (*subject, error) {
	s := newSubject(dir)
	files, err := filepath.Glob(build.Root(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		name := path.Join(dir, filepath.Base(file))
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		mutants, changed, err := gomutant.Of(name, string(text), len(s.mutants)+1)
		if err != nil {
			return nil, err
		}
		s.overlay[name] = changed
		for _, m := range mutants {
			s.mutants = append(s.mutants, candidate{Mutant: m, id: len(s.mutants) + 1})
		}
	}
	return s, s.add("condition.go.txt")
}

// appSubject is the package that wires the stages. Its tests run for what those of the
// stages leave.
func appSubject(stages []*subject) (*subject, error) {
	s := newSubject("sidecar/app")
	for _, stage := range stages {
		s.include(stage)
	}
	return s, s.add("")
}

// include compiles a package that this one uses with its mutants.
func (s *subject) include(used *subject) {
	for name, text := range used.overlay {
		if !strings.HasSuffix(name, "_test.go") && strings.HasPrefix(name, used.dir+"/") && !strings.Contains(name[len(used.dir)+1:], "/") {
			s.overlay[name] = text
		}
	}
}

// imports reports whether a file of the package imports another one.
func (s *subject) imports(used *subject) bool {
	for name, text := range s.overlay {
		if !strings.HasSuffix(name, "_test.go") && strings.Contains(text, strconv.Quote(path.Join(module, used.dir))) {
			return true
		}
	}
	return false
}

// testMain is the function that the overlay puts its own in the place of.
var testMain = regexp.MustCompile(`(?m)^func TestMain\(m \*testing\.M\)`)

// externalTest is the package clause of a test that sees exported names only.
var externalTest = regexp.MustCompile(`(?m)^package \w+_test$`)

// add adds the files of the overlay: that of this sort of mutants, and those of all.
func (s *subject) add(special string) error {
	tests, err := filepath.Glob(build.Root(s.dir, "*_test.go"))
	if err != nil {
		return err
	}
	own := "\nfunc TestMain(m *testing.M) { os.Exit(MutateRunner{M: m}.Run()) }\n" // for a package without one
	for _, file := range tests {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if testMain.Match(text) {
			s.overlay[path.Join(s.dir, filepath.Base(file))] = s.withRunner(string(text))
			own = ""
		}
	}
	for from, to := range map[string]string{special: "mutate_mutants.go", "job.go.txt": "mutate_job.go", "runner_test.go.txt": "mutate_runner_test.go"} {
		if from == "" {
			continue
		}
		text, err := overlayFiles.ReadFile("overlay/" + from)
		if err != nil {
			return err
		}
		if from == "runner_test.go.txt" {
			text = append(text, own...)
		}
		s.overlay[path.Join(s.dir, to)] = strings.NewReplacer("PACKAGE", path.Base(s.dir), "IMPORTPATH", path.Join(module, s.dir)).Replace(string(text))
	}
	return nil
}

// withRunner returns the text of a test file whose TestMain gets the runner of the overlay.
// The file may be of the package or of its external tests.
func (s *subject) withRunner(text string) string {
	text = testMain.ReplaceAllString(text, "func unmutatedTestMain(m interface{ Run() int })")
	runner := "MutateRunner"
	if m := externalTest.FindString(text); m != "" {
		text = strings.Replace(text, m, fmt.Sprintf("%s; import mutated %q", m, path.Join(module, s.dir)), 1)
		runner = "mutated.MutateRunner"
	}
	return text + "\nfunc TestMain(m *testing.M) { unmutatedTestMain(" + runner + "{M: m}) }\n"
}

func (s *subject) replace(file, old, new string) error {
	text, err := os.ReadFile(build.Root(file))
	if err != nil {
		return err
	}
	if strings.Count(string(text), old) != 1 {
		return fmt.Errorf("%s does not contain once: %s", file, old)
	}
	text = bytes.Replace(text, []byte(old), []byte(new), 1)
	s.overlay[file] = string(text) + "\nvar _ sync.Mutex\n"
	return nil
}

// compile builds the test binary with the overlay, in the folder.
func (s *subject) compile(folder string) error {
	paths := map[string]string{}
	for name, text := range s.overlay {
		file := filepath.Join(folder, strings.ReplaceAll(name, "/", "_")+".overlay")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		paths[build.Root(name)] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": paths})
	if err != nil {
		return err
	}
	overlay := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return err
	}
	binary := filepath.Join(folder, strings.ReplaceAll(s.dir, "/", "_")+".test")
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, "./"+s.dir)
	cmd.Dir = build.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c ./%s: %w\n%s", s.dir, err, out)
	}
	s.binary = binary
	return nil
}

// tests returns the names of the package's tests.
func (s *subject) tests() ([]string, error) {
	cmd := exec.Command(s.binary, "-test.list", ".")
	cmd.Dir = build.Root(s.dir)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests of %s: %w", s.dir, err)
	}
	names := strings.Fields(string(out))
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "Benchmark") })
	return names, nil
}
