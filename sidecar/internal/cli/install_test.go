package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, []byte("the binary"), 0o500); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "shared")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		folder:                           filepath.Join(folder, "sidecar"),
		folder + "/":                     filepath.Join(folder, "sidecar"),
		filepath.Join(folder, "another"): filepath.Join(folder, "another"),
	} {
		for range 2 { // the second time over the first, which may be running
			got, err := install(from, to)
			if err != nil || got != want {
				t.Fatalf("%s: %s %v", to, got, err)
			}
		}
		text, _ := os.ReadFile(want)
		if info, err := os.Stat(want); err != nil || info.Mode() != 0o755 || string(text) != "the binary" {
			t.Errorf("%s: %v %v %q", want, info.Mode(), err, text)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(folder, ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestInstallWhereItCannot(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, nil, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "folder", "sidecar"), 0o755); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		filepath.Join(dir, "no", "sidecar"): "no such file or directory (is the folder there",
		filepath.Join(dir, "folder"):        "is a folder: name the file",
	} {
		if _, err := install(from, to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", to, err, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "folder", ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
