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
		{"protocol", []string{"protocol"}, "a Go worker imports it and must not inherit our dependencies"},
		{"sidecar/internal/task", nil, "the nouns travel through every stage: what they know, everyone knows"},
		{"sidecar/internal/observe/workerlog", nil, "whoever reads a worker's output logs by it"},
		{"sidecar/internal/web/httpauth", []string{"sidecar/internal/web/httpauth"}, "who may see and do what is decided in one small place"},
		{"sidecar/internal/web/page", []string{"sidecar/internal/web/httpauth", "sidecar/internal/fleet", "sidecar/internal/web/page"}, "the page knows neither Redis nor the app: it declares what it shows and does"},
		{"sidecar/internal/observe/logdocs", nil, "whoever writes a log can use it"},
		{"sidecar/internal/fleet", nil, "store, commands, HTTP and the page share these nouns and nothing else"},
		{"examples/go-worker", []string{"protocol", "examples/go-worker"}, "it shows that a worker needs nothing but protocol"},
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
		{
			"github.com/redis/go-redis",
			[]string{"sidecar/internal/redis", "sidecar/test/kit/redistest", "bench"},
			"everything said to Redis is in store, where its atomicity can be read in one place",
		},
		{
			"github.com/oklog/run",
			[]string{"sidecar/app"},
			"the order of the stop is decided in app/group.go and nowhere else",
		},
		{
			"github.com/kelseyhightower/envconfig",
			[]string{"sidecar/config"},
			"only config reads the environment; everything else can be used as a library",
		},
		{
			"github.com/spf13/pflag",
			[]string{"sidecar/config"},
			"flags are another form of what config reads",
		},
		{
			"github.com/spf13/cobra",
			[]string{"sidecar/internal/cli"},
			"the command line belongs to package main and to the commands beside it",
		},
		{
			"github.com/alicebob/miniredis",
			[]string{"sidecar/internal/redisserver"},
			"it stands in for a Redis of ours only: tests use a real one",
		},
		{
			"github.com/testcontainers/testcontainers-go",
			[]string{"sidecar/test/kit/redistest"},
			"it is for tests and must not get into the binary",
		},
		{module + "/sidecar/test/kit/redistest", nil, "it is for tests and must not get into the binary"},
		{module + "/sidecar/test/kit/testlog", nil, "it is for tests and must not get into the binary"},
		{module + "/sidecar/test/kit/faultproxy", nil, "it is for tests and must not get into the binary"},
		{
			module + "/protocol/conformance",
			[]string{"sidecar/internal/cli"},
			"it is for the tests of workers and for sidecar worker test; a worker and the pipeline do without",
		},
		{
			"go.opentelemetry.io",
			[]string{"sidecar/internal/observe/tracing"},
			"the rest knows spans by an interface of two methods, and costs nothing without them",
		},
		{
			module + "/sidecar/internal/observe/tracing",
			[]string{"sidecar/internal/cli", "sidecar/config"},
			"app is given a Tracer, or none",
		},
		{
			module + "/sidecar/internal/redis",
			[]string{"sidecar/app", "sidecar/internal/cli/demo", "sidecar/internal/bare", "sidecar/internal/cli"},
			"stages declare the interface they need; app gives them the store (the demo's producer, the benchmarks' bare loop and the commands are no stages)",
		},
		{
			module + "/sidecar/internal/pipeline",
			[]string{"sidecar/app"},
			"app alone wires the stages",
		},
		{
			module + "/sidecar/internal/worker/spawn/remote",
			[]string{"sidecar/app", "sidecar/internal/cli"},
			"app wires the sidecar's side, and sidecar connect is the other one; the pool knows neither",
		},
		{
			module + "/sidecar/internal/redisproxy",
			[]string{"sidecar/app"},
			"app alone decides who is passed on to Redis",
		},
		{
			module + "/sidecar/internal/worker/supervise",
			[]string{"sidecar/app"},
			"app alone decides what stands in the place of the pipeline",
		},
		{
			"github.com/chromedp",
			nil,
			"it is for tests and must not get into the binary",
		},
		{
			module + "/sidecar/internal/web/page",
			[]string{"sidecar/app"},
			"app alone gives the page what it shows and does",
		},
	} {
		for path, p := range all {
			if !p.ours() || pathWithin(path, rule.path) {
				continue
			}
			// "sidecar" means package main itself, not what lies below it.
			allowed := slices.ContainsFunc(rule.by, func(rel string) bool {
				return path == module+"/"+rel || (rel != "sidecar" && within(path, rel))
			})
			for _, imp := range p.Imports {
				if pathWithin(imp, rule.path) && !allowed {
					t.Errorf("%s imports %s, which is for %s only: %s", path, imp, strings.Join(rule.by, ", "), rule.why)
				}
			}
		}
	}
}

// Templates look methods up by name: once one is filled in, the linker keeps every
// exported method of every type, and the binary grows by 8 MB. Others of our
// dependencies import these packages too, but nothing calls that part of them.
func TestNoTemplatesAtRunTime(t *testing.T) {
	found := false
	for path, p := range list(t) {
		if !withinAny(path, []string{"sidecar/internal", "sidecar/app"}) {
			continue
		}
		found = true
		for _, imp := range p.Imports {
			if imp == "text/template" || imp == "html/template" {
				t.Errorf("%s imports %s: the linker would keep every exported method (8 MB); compile templates, as internal/manifest does", path, imp)
			}
		}
	}
	if !found {
		t.Error("no package below sidecar/internal and sidecar/app: the rule guards nothing")
	}
}

func pathWithin(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// OpenTelemetry's exporter brings all of gRPC along for one message type, which
// doubles the size of the binary.
func TestTheBinaryHasNoGRPC(t *testing.T) {
	p, ok := list(t)[module+"/sidecar"]
	if !ok {
		t.Fatal("no package sidecar: the rule guards nothing")
	}
	for _, dep := range p.Deps {
		if pathWithin(dep, "google.golang.org/grpc") {
			t.Errorf("sidecar depends on %s: see docs/adr/0037", dep)
		}
	}
}

// The stages of the pipeline know neither each other nor Redis.
func TestStagesAreApart(t *testing.T) {
	all := list(t)
	const pipeline = "sidecar/internal/pipeline"
	stages := 0
	for path, p := range all {
		if !within(path, pipeline) {
			continue
		}
		stages++
		stage, _, _ := strings.Cut(strings.TrimPrefix(path, module+"/"+pipeline+"/"), "/")
		for _, dep := range p.Deps {
			switch {
			case within(dep, pipeline+"/"+stage):
			case within(dep, pipeline):
				t.Errorf("%s depends on %s: stages never know each other; app puts interfaces between them", path, dep)
			case within(dep, "sidecar/internal/redis"), pathWithin(dep, "github.com/redis/go-redis"):
				t.Errorf("%s depends on %s: a stage declares the one to three methods it needs, and app gives it the store", path, dep)
			case within(dep, "sidecar/app"):
				t.Errorf("%s depends on %s: app wires the stages, not the reverse", path, dep)
			}
		}
	}
	if stages < 4 {
		t.Errorf("%d stages found: claim, dispatch, process and report are expected", stages)
	}
}
