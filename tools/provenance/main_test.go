package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestStatementNamesEveryFileAndItsSources(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"b.tar.gz": "abc", "oci/a": "", "a.whl": "abc"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	printed := func() []byte {
		var out bytes.Buffer
		err := run([]string{"-version", "1.2.3", "-commit", "c0ffee", "-builder", "https://example.test/b", "-epoch", "7", folder, self}, &out)
		if err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	var s statement
	if err := json.Unmarshal(printed(), &s); err != nil {
		t.Fatal(err)
	}
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	want := []struct{ name, sum string }{
		{"a.whl", abc},
		{"b.tar.gz", abc},
		{"oci/a", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	}
	if len(s.Subject) != len(want) {
		t.Fatalf("the subjects are %v", s.Subject)
	}
	for i, w := range want {
		if s.Subject[i].Name != w.name || s.Subject[i].Digest["sha256"] != w.sum {
			t.Errorf("subject %d is %v, want %v", i, s.Subject[i], w)
		}
	}
	if got := s.Predicate.BuildDefinition.ResolvedDependencies[0].Digest["gitCommit"]; got != "c0ffee" {
		t.Errorf("the commit is %q", got)
	}
	if s.Predicate.RunDetails.Builder.ID != "https://example.test/b" || s.Predicate.BuildDefinition.InternalParameters["goVersion"] == "" {
		t.Errorf("the builder or the version of Go is missing: %+v", s.Predicate)
	}
	if !bytes.Equal(printed(), printed()) {
		t.Error("two statements of the same files differ")
	}
}

func TestAFolderWithoutFilesIsAnError(t *testing.T) {
	if _, err := subjects(t.TempDir()); err == nil {
		t.Error("a statement without a subject was made")
	}
}

func TestDirHash(t *testing.T) {
	got, err := dirHash("h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
	if err != nil || got["dirHash1"] != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("dirHash gives %v, %v", got, err)
	}
	for _, sum := range []string{"", "h1:", "h2:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "h1:abc"} {
		if got, err := dirHash(sum); err == nil {
			t.Errorf("%q gives %v", sum, got)
		}
	}
}
