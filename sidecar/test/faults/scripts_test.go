//go:build faults

package faults

import (
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// scripts names the store's scripts by the SHA-1 under which they are called.
func scripts(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	for name, text := range scriptTexts(t) {
		sum := sha1.Sum([]byte(text))
		names[hex.EncodeToString(sum[:])] = name
	}
	return names
}

// scriptTexts returns the store's scripts as Redis gets them. The text is that of the
// operation's own file, behind its preamble: the prelude and the part that claims have in
// common, or channel.lua for requests of workers. The scripts that read heads have no
// preamble.
func scriptTexts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(build.Root("sidecar", "internal", "redis", "*.lua"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	prelude := read(build.Root("sidecar", "internal", "redis", "prelude.lua"))
	channel := read(build.Root("sidecar", "internal", "redis", "channel.lua"))
	claiming := read(build.Root("sidecar", "internal", "redis", "claiming.lua"))
	routing := read(build.Root("sidecar", "internal", "redis", "routing.lua"))
	texts := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".lua")
		front := prelude
		switch {
		case name == "prelude", name == "channel", name == "claiming", name == "routing":
			continue
		case name == "claim":
			front += claiming
		case name == "claim_routed":
			front += routing + claiming
		case name == "collect", name == "take_isolated":
			front += routing
		case strings.HasPrefix(name, "channel_"), name == "enqueue":
			front = channel
		case name == "heads", name == "list_heads":
			front = ""
		}
		texts[name] = front + read(file)
	}
	return texts
}
