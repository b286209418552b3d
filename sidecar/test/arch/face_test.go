package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPublicPackagesNameNoInternalType checks the exported declarations of the packages
// that other programs import. A type of an internal package in one of them cannot be named
// there, and go doc does not show what it has.
func TestPublicPackagesNameNoInternalType(t *testing.T) {
	public := []string{module + "/sidecar/app", module + "/sidecar/config", module + "/protocol"}
	imp := exportData(t, public)
	for _, path := range public {
		pkg, err := imp.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		f := &face{pkg: pkg}
		for _, name := range pkg.Scope().Names() {
			if o := pkg.Scope().Lookup(name); o.Exported() {
				f.object(o)
			}
		}
		if f.seen < 10 {
			t.Errorf("%s: only %d exported objects were seen: the check guards nothing", path, f.seen)
		}
		for _, found := range f.found {
			t.Errorf("%s: %s: a program outside of this module cannot use it", path, found)
		}
	}
}

// TestInternalTypesAreFound checks the check itself.
func TestInternalTypesAreFound(t *testing.T) {
	secret := types.NewPackage(module+"/internal/secret", "secret")
	hidden := types.NewNamed(types.NewTypeName(token.NoPos, secret, "Hidden", nil), types.NewStruct(nil, nil), nil)
	pkg := types.NewPackage(module+"/open", "open")
	field := types.NewField(token.NoPos, pkg, "Field", types.NewSlice(types.NewPointer(hidden)), false)
	private := types.NewField(token.NoPos, pkg, "private", hidden, false)
	shown := types.NewNamed(types.NewTypeName(token.NoPos, pkg, "Shown", nil), types.NewStruct([]*types.Var{field, private}, nil), nil)
	takes := types.NewSignatureType(nil, nil, nil, types.NewTuple(types.NewParam(token.NoPos, pkg, "", hidden)), nil, false)
	shown.AddMethod(types.NewFunc(token.NoPos, pkg, "Method", types.NewSignatureType(
		types.NewParam(token.NoPos, pkg, "s", shown), nil, nil, nil, types.NewTuple(types.NewParam(token.NoPos, pkg, "", types.NewMap(types.Typ[types.Int], hidden))), false)))
	f := &face{pkg: pkg}
	f.object(shown.Obj())
	f.object(types.NewVar(token.NoPos, pkg, "Variable", hidden))
	f.object(types.NewFunc(token.NoPos, pkg, "Function", takes))
	f.object(types.NewTypeName(token.NoPos, pkg, "Alias", hidden))
	f.object(types.NewTypeName(token.NoPos, pkg, "GoodAlias", shown))
	if len(f.found) != 5 {
		t.Errorf("found %q", f.found)
	}
}

// face collects the internal types that the exported declarations of a package name.
type face struct {
	pkg   *types.Package
	seen  int
	found []string
}

func (f *face) object(o types.Object) {
	f.seen++
	name, isType := o.(*types.TypeName)
	named, isNamed := o.Type().(*types.Named)
	if !isType || !isNamed || named.Obj() != name {
		f.typ(o.Name(), o.Type()) // a variable, a constant, a function or an alias
		return
	}
	f.typ(name.Name(), named.Underlying())
	for m := range named.Methods() {
		if m.Exported() {
			f.typ(name.Name()+"."+m.Name(), m.Type())
		}
	}
}

// typ looks at what go doc shows of a type: where names one of this package, that one is
// looked at as an object of its own.
func (f *face) typ(where string, typ types.Type) {
	switch x := typ.(type) {
	case *types.Named:
		f.name(where, x.Obj())
		for arg := range x.TypeArgs().Types() {
			f.typ(where, arg)
		}
	case *types.Alias:
		f.name(where, x.Obj())
		f.typ(where, types.Unalias(x))
	case *types.Pointer:
		f.typ(where, x.Elem())
	case *types.Slice:
		f.typ(where, x.Elem())
	case *types.Array:
		f.typ(where, x.Elem())
	case *types.Chan:
		f.typ(where, x.Elem())
	case *types.Map:
		f.typ(where, x.Key())
		f.typ(where, x.Elem())
	case *types.Tuple:
		for v := range x.Variables() {
			f.typ(where, v.Type())
		}
	case *types.Signature:
		f.typ(where, x.Params())
		f.typ(where, x.Results())
		for p := range x.TypeParams().TypeParams() {
			f.typ(where, p.Constraint())
		}
	case *types.Struct:
		for v := range x.Fields() {
			if v.Exported() {
				f.typ(where+"."+v.Name(), v.Type())
			}
		}
	case *types.Interface:
		for m := range x.ExplicitMethods() {
			f.typ(where+"."+m.Name(), m.Type())
		}
		for e := range x.EmbeddedTypes() {
			f.typ(where, e)
		}
	case *types.Union:
		for term := range x.Terms() {
			f.typ(where, term.Type())
		}
	}
}

func (f *face) name(where string, o *types.TypeName) {
	if p := o.Pkg(); p != nil && strings.Contains("/"+p.Path()+"/", "/internal/") {
		f.found = append(f.found, fmt.Sprintf("%s names %s.%s", where, p.Path(), o.Name()))
	}
}

// exportData imports packages as the compiler has written them.
func exportData(t *testing.T, paths []string) types.Importer {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-export", "-json=ImportPath,Export"}, paths...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	files := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		files[p.ImportPath] = p.Export
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(files[path])
	})
}
