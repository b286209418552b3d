package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/graflow/graflow-sidecar"

// pkg is what go list tells about a package, its tests left out: tests may
// import what they need.
type pkg struct {
	ImportPath string
	Dir        string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// ours reports whether the package belongs to this module.
func (p pkg) ours() bool { return within(p.ImportPath, "") }

// within reports whether path is the module's package rel or lies below it.
func within(path, rel string) bool {
	root := module
	if rel != "" {
		root += "/" + rel
	}
	return path == root || strings.HasPrefix(path, root+"/")
}

func withinAny(path string, rels []string) bool {
	return slices.ContainsFunc(rels, func(rel string) bool { return within(path, rel) })
}

// list returns every package of the module and everything those depend on.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps",
		"-json=ImportPath,Dir,Standard,GoFiles,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// A package in one of these places depends on the standard library alone.
func TestStandardLibraryOnly(t *testing.T) {
	all := list(t)
	for _, rule := range []struct {
		rel     string
		besides []string // of this module
		why     string
	}{
		{"internal/jsonscan", nil, "protocol uses it, and with protocol every Go worker"},
		{"protocol", []string{"protocol", "internal/jsonscan"}, "a Go worker imports it and must not inherit our dependencies"},
		{"sidecar/internal/task", []string{"internal/jsonscan"}, "the nouns travel through every stage: what they know, everyone knows"},
		{"sidecar/internal/observe/workerlog", nil, "every reader of a worker's output logs by it"},
		{"sidecar/internal/web/httpauth", []string{"sidecar/internal/web/httpauth"}, "the rules for what a viewer may see and do are in one small place"},
		{"sidecar/internal/web/page", []string{"sidecar/internal/web/httpauth", "sidecar/internal/fleet", "sidecar/internal/web/page"}, "the page knows neither Redis nor the app: it declares what it shows and does"},
		{"sidecar/internal/observe/logdocs", []string{"docs"}, "every package that writes a log can use it"},
		{"sidecar/internal/fleet", nil, "store, commands, HTTP and the page share these nouns and nothing else"},
		{"examples/go-worker", []string{"protocol", "internal/jsonscan", "examples/go-worker"}, "it shows that a worker needs nothing but protocol"},
	} {
		found := false
		for path, p := range all {
			if !within(path, rule.rel) {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				d, known := all[dep]
				if dep != path && (!known || !d.Standard) && dep != "C" && !withinAny(dep, rule.besides) {
					t.Errorf("%s depends on %s: %s may use the standard library only, since %s", path, dep, rule.rel, rule.why)
				}
			}
		}
		if !found {
			t.Errorf("no package %s: the rule guards nothing", rule.rel)
		}
	}
}

// These imports are for some packages only.
func TestOnlyTheseMayImport(t *testing.T) {
	all := list(t)
	for _, rule := range []struct {
		path string // and everything below it
		by   []string
		why  string
	}{
		{"github.com/redis/go-redis", []string{"sidecar/internal/redis", "sidecar/test/kit", "bench"}, "everything said to Redis is in redis, where its atomicity can be read in one place"},
		{"github.com/oklog/run", []string{"sidecar/app"}, "the order of the stop is decided in app/group.go and nowhere else"},
		{"github.com/kelseyhightower/envconfig", []string{"sidecar/config"}, "config reads the environment; everything else can be used as a library"},
		{"github.com/spf13/pflag", []string{"sidecar/config"}, "flags are another form of what config reads"},
		{"github.com/spf13/cobra", []string{"sidecar/internal/cli"}, "the command line belongs to the commands"},
		{"github.com/alicebob/miniredis", []string{"sidecar/internal/redisserver"}, "it stands in for a Redis of ours only"},
		{"github.com/anishathalye/porcupine", []string{"sidecar/test/kit"}, "it is for tests and must not get into the binary"},
		{"github.com/testcontainers/testcontainers-go", []string{"sidecar/test/kit"}, "it is for tests and must not get into the binary"},
		{"github.com/chromedp", nil, "it is for tests and must not get into the binary"},
		{"go.opentelemetry.io", []string{"sidecar/internal/observe"}, "the rest knows spans by an interface of two methods"},
		{"google.golang.org/grpc", []string{"sidecar/internal/observe/otlp"}, "it is for the exporters of OpenTelemetry only"},
		{module + "/sidecar/test", nil, "it is for tests and must not get into the binary"},
		{module + "/protocol/conformance", []string{"sidecar/internal/cli"}, "it is for the tests of workers and for sidecar worker test"},
		{module + "/sidecar/internal/pipeline", []string{"sidecar/app", "sidecar/internal/testhook", "sidecar/test/kit"}, "app alone wires the stages (tests put parts of their own in place of them)"},
		{module + "/sidecar/internal/testhook", []string{"sidecar/app", "sidecar/test/kit"}, "only binaries for tests and benchmarks set hooks"},
		{module + "/sidecar/internal/worker/stage", []string{"sidecar/app", "sidecar/internal/testhook", "sidecar/test/kit"}, "app alone wires the stages"},
		{module + "/sidecar/internal/web", []string{"sidecar/app", "sidecar/internal/cli", "sidecar/internal/connlimit"}, "app alone says what is shown and done over HTTP (the profiles are the command's)"},
	} {
		for path, p := range all {
			if !p.ours() || pathWithin(path, rule.path) {
				continue
			}
			allowed := withinAny(path, rule.by)
			for _, imp := range p.Imports {
				if pathWithin(imp, rule.path) && !allowed {
					t.Errorf("%s imports %s, which is for %s only: %s", path, imp, strings.Join(rule.by, ", "), rule.why)
				}
			}
		}
	}
}

// The arrows between the rooms run one way.
func TestArrows(t *testing.T) {
	all := list(t)
	for _, rule := range []struct {
		from, to []string
		why      string
	}{
		{
			[]string{"sidecar/internal/pipeline", "sidecar/internal/worker", "sidecar/internal/redis", "sidecar/internal/observe"},
			[]string{"sidecar/app", "sidecar/internal/cli", "sidecar/internal/web", "sidecar/internal/host"},
			"the parts do not know the packages that wire, show or start them",
		},
		{
			[]string{"sidecar/internal/redis", "sidecar/internal/web", "sidecar/internal/host", "sidecar/internal/redisserver"},
			[]string{"sidecar/internal/pipeline"},
			"stages use these, not the reverse",
		},
		{
			[]string{"sidecar/config"},
			[]string{"sidecar/app", "sidecar/internal/pipeline", "sidecar/internal/worker", "sidecar/internal/redis", "sidecar/internal/observe", "sidecar/internal/web", "sidecar/internal/host", "sidecar/internal/cli"},
			"a configuration knows nothing of what it configures",
		},
		{
			[]string{"sidecar/internal/host"},
			[]string{"sidecar/app", "sidecar/internal/cli", "sidecar/internal/redis"},
			"what belongs to the process knows a sidecar by an interface",
		},
	} {
		for _, from := range rule.from {
			found := false
			for path, p := range all {
				if !within(path, from) {
					continue
				}
				found = true
				for _, imp := range p.Imports {
					if withinAny(imp, rule.to) {
						t.Errorf("%s imports %s: %s", path, imp, rule.why)
					}
				}
			}
			if !found {
				t.Errorf("no package %s: the rule guards nothing", from)
			}
		}
	}
}

// The stages of the pipeline do not know each other.
func TestStagesAreApart(t *testing.T) {
	const pipeline = "sidecar/internal/pipeline"
	stages := map[string]bool{}
	for path, p := range list(t) {
		if !within(path, pipeline) {
			continue
		}
		stage, _, _ := strings.Cut(strings.TrimPrefix(path, module+"/"+pipeline+"/"), "/")
		stages[stage] = true
		for _, dep := range p.Deps {
			if within(dep, pipeline) && !within(dep, pipeline+"/"+stage) {
				t.Errorf("%s depends on %s: stages never know each other; app puts interfaces between them", path, dep)
			}
		}
	}
	if len(stages) != 4 {
		t.Errorf("the stages are %v: claim, dispatch, report and lease are expected", stages)
	}
}

func pathWithin(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
