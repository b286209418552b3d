package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// environment are the functions that read the environment of the process.
var environment = map[string][]string{
	"os":      {"Getenv", "LookupEnv", "Environ", "ExpandEnv"},
	"syscall": {"Getenv", "Environ"},
}

// Other programs can import app: they pass it a configuration, and do not set their environment.
func TestOnlyConfigReadsTheEnvironment(t *testing.T) {
	for path, p := range list(t) {
		if (!within(path, "sidecar/app") && !within(path, "sidecar/internal")) ||
			withinAny(path, []string{"sidecar/config", "sidecar/internal/cli", "sidecar/internal/host"}) {
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			names := imported(f)
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(environment[names[id.Name]], sel.Sel.Name) {
					t.Errorf("%s: %s.%s: only config, host and cli read the environment; a program that embeds the sidecar passes a config.Config",
						fset.Position(sel.Pos()), id.Name, sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// The order of the stop is in one file.
func TestOnlyGroupImportsRun(t *testing.T) {
	p, ok := list(t)[module+"/sidecar/app"]
	if !ok {
		t.Fatal("no package sidecar/app: the rule guards nothing")
	}
	for _, file := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range imported(f) {
			if path == "github.com/oklog/run" && file != "group.go" {
				t.Errorf("sidecar/app/%s imports %s: the order of the stop is decided in group.go alone", file, path)
			}
		}
	}
}

// A child that the reaper has not been told of would look like an orphan, and its
// exit status would be taken away.
func TestOnlyReaperStartsProcesses(t *testing.T) {
	starts := []string{"Start", "Run", "Output", "CombinedOutput"}
	for path, p := range list(t) {
		if !within(path, "sidecar") || within(path, "sidecar/internal/worker/spawn/reaper") || within(path, "sidecar/test") {
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			if imported(f)["exec"] != "os/exec" {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) > 0 {
					return true
				}
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(starts, sel.Sel.Name) {
					t.Errorf("%s: %s(): start processes with reaper.Start, and release them when they have been waited for",
						fset.Position(call.Pos()), sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// imported maps the names under which a file knows its imports to their paths.
func imported(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := filepath.Base(path)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = path
	}
	return names
}

// redis.Nil is also in errors that are none of the server's to what was asked: see
// isNilReply.
func TestOneFunctionDecidesThatAKeyIsMissing(t *testing.T) {
	found := 0
	for path, p := range list(t) {
		if !within(path, "sidecar") {
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			name := "redis" // what go-redis calls itself, unless the file does otherwise
			for alias, path := range imported(f) {
				if path == "github.com/redis/go-redis/v9" && alias != "v9" {
					name = alias
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if id, ok := sel.X.(*ast.Ident); !ok || id.Name != name || sel.Sel.Name != "Nil" {
					return true
				}
				found++
				if !within(path, "sidecar/internal/redis") || file != "reply.go" {
					t.Errorf("%s: redis.Nil: ask isNilReply, which knows which errors only wrap it", fset.Position(sel.Pos()))
				}
				return true
			})
		}
	}
	if found == 0 {
		t.Error("redis.Nil is nowhere: the rule guards nothing")
	}
}

// A user of the binary has no checkout: lines of the log, errors and remedies name a
// command. Help texts may name a page, which the documents made of them link.
func TestMessagesNameNoPathInACheckout(t *testing.T) {
	page := regexp.MustCompile(`docs/[a-z-]+\.md`)
	helped := 0
	for path, p := range list(t) {
		if !within(path, "sidecar") || within(path, "sidecar/test") {
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch x := n.(type) {
				case *ast.Field:
					helped += len(page.FindAllString(tagOf(x), -1))
					return false // the tags of the settings have their help
				case *ast.KeyValueExpr:
					if key, ok := x.Key.(*ast.Ident); ok && key.Name == "Long" {
						return false
					}
				case *ast.BasicLit:
					if x.Kind == token.STRING && page.MatchString(x.Value) {
						t.Errorf("%s: %s: name a command, such as sidecar explain ID", fset.Position(x.Pos()), page.FindString(x.Value))
					}
				}
				return true
			})
		}
	}
	if helped == 0 {
		t.Error("no help text names a page: the check looks in the wrong places")
	}
}

func tagOf(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	return f.Tag.Value
}
