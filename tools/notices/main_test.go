package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes files, whose content is their path, into a new folder.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, file := range files {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestModuleWithoutALicenceIsAnError(t *testing.T) {
	for name, files := range map[string][]string{
		"nothing":           {"main.go"},
		"a source file":     {"license.go", "licence.json"},
		"a notice alone":    {"NOTICE"},
		"below the root":    {"vendored/LICENSE"},
		"the folder's name": {"LICENSES/MIT.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, files...)
			found := modules{}
			found.add("example.test/bare", "v1.2.3", root, filepath.Join(root, filepath.Dir(files[0])))
			_, err := found.texts()
			if err == nil || !strings.Contains(err.Error(), "example.test/bare v1.2.3 has no licence file") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestTextsOfLinkedPackagesOnly(t *testing.T) {
	root := tree(t, "LICENSE.md", "NOTICE.txt", "linked/part/COPYING", "left/LICENSE")
	found := modules{}
	found.add("example.test/a", "v1.0.0", root, filepath.Join(root, "linked", "part"))
	texts, err := found.texts()
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, text := range texts {
		bodies = append(bodies, text.body)
	}
	if got, want := strings.Join(bodies, " "), "LICENSE.md NOTICE.txt linked/part/COPYING"; got != want {
		t.Errorf("the texts are %q, want %q", got, want)
	}
}

func TestTheSameTextIsPrintedOnce(t *testing.T) {
	found := modules{}
	for _, path := range []string{"example.test/b", "example.test/a"} {
		root := tree(t, "LICENSE")
		found.add(path, "v1.0.0", root, root)
	}
	texts, err := found.texts()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := write(&out, texts); err != nil {
		t.Fatal(err)
	}
	want := "\nexample.test/a v1.0.0 (LICENSE)\nexample.test/b v1.0.0 (LICENSE)\n" + rule + "\n\nLICENSE\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("printed:\n%s", out.String())
	}
}
