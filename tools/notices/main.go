// Command notices prints the licence texts of everything that is linked into the given
// binaries: the Go standard library and every module. It runs in the top folder of the
// sources of the binaries.
//
// Usage: notices PACKAGE BINARY…
//
// PACKAGE is what the binaries were built from. A module of which no licence file is found
// is an error, so that none is published without its text.
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("usage: notices PACKAGE BINARY…")
	}
	found := modules{}
	for _, binary := range args[1:] {
		if err := found.addBinary(args[0], binary); err != nil {
			return err
		}
	}
	texts, err := found.texts()
	if err != nil {
		return err
	}
	return write(out, texts)
}

// A module is one whose packages are linked.
type module struct {
	name string // with its version
	root string
	dirs map[string]bool // of linked packages, in and below root
}

type modules map[string]*module

func (m modules) add(path, version, root, dir string) {
	key := path
	if m[key] == nil {
		m[key] = &module{name: strings.TrimSpace(path + " " + version), root: root, dirs: map[string]bool{root: true}}
	}
	m[key].dirs[dir] = true
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir, Root string
	Standard              bool
	Module                *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// addBinary adds what the binary is linked from: the packages that go list names for its
// platform, which must be of the modules that the binary itself names.
func (m modules) addBinary(pkg, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	packages, err := list(pkg, info)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	for _, p := range packages {
		switch {
		case p.Standard:
			m.add("the Go standard library and runtime", info.GoVersion, p.Root, p.Root)
		case p.Module != nil && !p.Module.Main:
			m.add(p.Module.Path, p.Module.Version, p.Module.Dir, p.Dir)
		}
	}
	for _, dep := range info.Deps {
		if m[dep.Path] == nil {
			return fmt.Errorf("%s has the module %s, which is not in these sources", binary, dep.Path)
		}
	}
	return nil
}

func list(pkg string, info *debug.BuildInfo) ([]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Root,Standard,Module", pkg)
	cmd.Env = os.Environ()
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED":
			cmd.Env = append(cmd.Env, s.Key+"="+s.Value)
		}
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// isNotice tells which files hold a licence or what a licence wants to be kept with it.
var isNotice = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([-._].*)?$`)

// isSource keeps a licence.go from being taken for one.
var isSource = regexp.MustCompile(`(?i)\.(go|s|c|h|py|sh|json|ya?ml|tmpl|html)$`)

// A text is one that several modules may have the same.
type text struct {
	names []string
	body  string
}

// texts gives the text of each licence once, with the names of the modules that have it.
func (m modules) texts() ([]text, error) {
	byBody := map[string]*text{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		mod := m[key]
		files, err := mod.notices()
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(filepath.Join(mod.root, file))
			if err != nil {
				return nil, err
			}
			body := strings.TrimRight(strings.ReplaceAll(string(data), "\r\n", "\n"), " \t\n")
			if byBody[body] == nil {
				byBody[body] = &text{body: body}
			}
			byBody[body].names = append(byBody[body].names, mod.name+" ("+filepath.ToSlash(file)+")")
		}
	}
	texts := make([]text, 0, len(byBody))
	for _, t := range byBody {
		texts = append(texts, *t)
	}
	slices.SortFunc(texts, func(a, b text) int { return strings.Compare(a.names[0], b.names[0]) })
	return texts, nil
}

// notices gives the paths, below the module's root, of the licence files of the linked
// packages and of the folders above them.
func (m *module) notices() ([]string, error) {
	dirs := map[string]bool{}
	for dir := range m.dirs {
		for ; strings.HasPrefix(dir, m.root); dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	var found []string
	licensed := false
	for dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			name := entry.Name()
			if entry.IsDir() || !isNotice.MatchString(name) || isSource.MatchString(name) {
				continue
			}
			path, err := filepath.Rel(m.root, filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			found = append(found, path)
			lower := strings.ToLower(name)
			licensed = licensed || dir == m.root && (strings.HasPrefix(lower, "licen") || strings.HasPrefix(lower, "copying"))
		}
	}
	if !licensed {
		return nil, fmt.Errorf("%s has no licence file in %s: it must not be published without one", m.name, m.root)
	}
	slices.Sort(found)
	return found, nil
}

var rule = strings.Repeat("=", 80)

func write(out io.Writer, texts []text) error {
	var b strings.Builder
	b.WriteString("The graflow-sidecar binary contains the following software of others.\n")
	for _, t := range texts {
		b.WriteString("\n" + rule + "\n")
		for _, name := range t.names {
			b.WriteString(name + "\n")
		}
		b.WriteString(rule + "\n\n" + t.body + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
