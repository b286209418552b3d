// Package luascripts reads the Lua scripts of sidecar/internal/redis from their files, for
// tests that run them without a Store, and lets such tests change them.
//
// A Store puts a script together from several files. [Sources] has the same table, and a
// test compares the results with the scripts that a Store sends.
package luascripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// parts are the files of each script, in the order in which a Store joins them.
var parts = map[string][]string{
	"channel_add":    {"channel", "channel_add"},
	"channel_delete": {"channel", "channel_delete"},
	"channel_lock":   {"channel", "channel_lock"},
	"channel_push":   {"channel", "channel_push"},
	"channel_set":    {"channel", "channel_set"},
	"channel_unlock": {"channel", "channel_unlock"},
	"claim":          {"prelude", "claiming", "claim"},
	"claim_routed":   {"prelude", "routing", "claiming", "claim_routed"},
	"collect":        {"prelude", "routing", "collect"},
	"command":        {"prelude", "format", "command"},
	"delay":          {"prelude", "delay"},
	"drop":           {"prelude", "format", "drop"},
	"enqueue":        {"channel", "enqueue"},
	"heads":          {"heads"},
	"list_heads":     {"list_heads"},
	"part":           {"prelude", "part"},
	"pause":          {"prelude", "format", "pause"},
	"reap":           {"prelude", "reap"},
	"reconcile":      {"prelude", "reconcile"},
	"register":       {"prelude", "format", "register"},
	"release":        {"prelude", "release"},
	"renew":          {"prelude", "renew"},
	"report":         {"prelude", "report"},
	"requeue":        {"prelude", "format", "requeue"},
	"retire":         {"prelude", "retire"},
	"take_isolated":  {"prelude", "routing", "take_isolated"},
	"tick":           {"prelude", "format", "tick"},
	"trim_dead":      {"prelude", "format", "trim_dead"},
}

// Dir is the environment variable with a folder whose .lua files replace those of the
// repository, for tools that change the scripts.
const Dir = "LUASCRIPTS_DIR"

// Files returns the content of all .lua files by name, without the extension. Files of the
// folder in LUASCRIPTS_DIR replace those of the repository.
func Files() (map[string]string, error) {
	files := make(map[string]string)
	for _, dir := range []string{build.Root("sidecar", "internal", "redis"), os.Getenv(Dir)} {
		if dir == "" {
			continue
		}
		paths, err := filepath.Glob(filepath.Join(dir, "*.lua"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			files[strings.TrimSuffix(filepath.Base(path), ".lua")] = string(text)
		}
	}
	return files, nil
}

// Sources returns the source of each script by its name, joined from files.
func Sources(files map[string]string) (map[string]string, error) {
	sources := make(map[string]string)
	used := make(map[string]bool)
	for name, list := range parts {
		for _, part := range list {
			text, ok := files[part]
			if !ok {
				return nil, fmt.Errorf("script %s: no file %s.lua", name, part)
			}
			sources[name] += text
			used[part] = true
		}
	}
	for name := range files {
		if !used[name] {
			return nil, fmt.Errorf("no script has the file %s.lua", name)
		}
	}
	return sources, nil
}

// Edit replaces a text that occurs once in a file. It returns an error otherwise, so that
// a test does not go on with a script that it has not changed.
func Edit(files map[string]string, name, before, after string) error {
	if n := strings.Count(files[name], before); n != 1 {
		return fmt.Errorf("%s.lua has %d times %q, want once", name, n, before)
	}
	files[name] = strings.Replace(files[name], before, after, 1)
	return nil
}
