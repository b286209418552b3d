//go:build faults

package faults

import (
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// scripts names the store's scripts by the SHA-1 under which they are called.
func scripts(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, source := range sources {
		for name, text := range scriptTextsOf(t, source) {
			sum := sha1.Sum([]byte(text))
			names[hex.EncodeToString(sum[:])] = name
		}
	}
	return names
}

// scriptTexts returns the store's scripts as Redis gets them. The text is that of the
// operation's own file, behind its preamble: the prelude and the part that claims, or the
// operations that check the format, have in common, or channel.lua for requests of workers.
// The scripts that read heads have no preamble.
func scriptTexts(t *testing.T) map[string]string {
	t.Helper()
	return scriptTextsOf(t, build.Root())
}

// scriptTextsOf is scriptTexts for the sources in a folder.
func scriptTextsOf(t *testing.T, source string) map[string]string {
	t.Helper()
	folder := filepath.Join(source, "sidecar", "internal", "redis")
	files, err := filepath.Glob(filepath.Join(folder, "*.lua"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", folder, err)
	}
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	prelude := read(filepath.Join(folder, "prelude.lua"))
	channel := read(filepath.Join(folder, "channel.lua"))
	claiming := read(filepath.Join(folder, "claiming.lua"))
	routing := read(filepath.Join(folder, "routing.lua"))
	format := "" // versions before the first release have none
	if slices.Contains(files, filepath.Join(folder, "format.lua")) {
		format = read(filepath.Join(folder, "format.lua"))
	}
	texts := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".lua")
		front := prelude
		switch {
		case name == "prelude", name == "channel", name == "claiming", name == "routing", name == "format":
			continue
		case name == "claim":
			front += claiming
		case name == "claim_routed":
			front += routing + claiming
		case name == "collect", name == "take_isolated":
			front += routing
		case slices.Contains([]string{"register", "tick", "requeue", "drop", "trim_dead", "pause", "command"}, name):
			front += format
		case strings.HasPrefix(name, "channel_"), name == "enqueue":
			front = channel
		case name == "heads", name == "list_heads":
			front = ""
		}
		texts[name] = front + read(file)
	}
	return texts
}
