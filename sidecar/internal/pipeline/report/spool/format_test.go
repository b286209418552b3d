package spool_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// withoutChecksums returns the text of a file of the first versions, which have neither
// checksums nor counts.
func withoutChecksums(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	if err := enc.Encode(header); err != nil {
		t.Fatal(err)
	}
	for _, o := range four() {
		if err := enc.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestFirstVersionsReadTheFile reads a file as the versions do that know no checksums: each
// line with the type of a header or an outcome, and nothing behind the outcomes.
func TestFirstVersionsReadTheFile(t *testing.T) {
	path := write(t, t.TempDir())
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	var h spool.Header
	if err := json.Unmarshal(lines[0], &h); err != nil || h != header {
		t.Errorf("the header is %+v, %v", h, err)
	}
	var got []task.Outcome
	for _, line := range lines[1:] {
		var o task.Outcome
		if err := json.Unmarshal(line, &o); err != nil {
			t.Error(err)
		}
		got = append(got, o)
	}
	if !reflect.DeepEqual(got, outcomes()) {
		t.Errorf("the outcomes are %+v", got)
	}
}

// TestFilesOfFirstVersionsAreRead reads and cuts a file without checksums.
func TestFilesOfFirstVersionsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w-1.spool")
	if err := os.WriteFile(path, withoutChecksums(t), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	if _, err := f.Next(1); err != nil {
		t.Fatal(err)
	}
	if err := f.CutTo(f.At()); err != nil {
		t.Fatal(err)
	}
	f = open(t, path)
	if got := all(t, f, 1); !reflect.DeepEqual(got, four()[1:]) || len(f.Bad()) > 0 || f.Missing() != 0 || f.Header != header {
		t.Errorf("read %+v, bad lines %v, %d missing, header %+v", got, f.Bad(), f.Missing(), f.Header)
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
}

// fourOnDisk returns the path of a file with four outcomes, and its lines.
func fourOnDisk(t *testing.T) (path string, lines [][]byte) {
	t.Helper()
	path, err := spool.Folder{Path: t.TempDir()}.Write(t.Context(), header, four())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, bytes.SplitAfter(text, []byte("\n"))
}

// TestAFileThatAFirstVersionHasCut: it removes outcomes at the beginning and keeps the header.
func TestAFileThatAFirstVersionHasCut(t *testing.T) {
	path, lines := fourOnDisk(t)
	for behind, missing := range map[int]int{len(lines): 0, 4: 1} { // the second one lost its tail, too
		cut := append(bytes.Clone(lines[0]), bytes.Join(lines[3:behind], nil)...)
		if err := os.WriteFile(path, cut, 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, path)
		if got := all(t, f, 1); len(got) != 2-missing || f.Missing() != missing || len(f.Bad()) > 0 {
			t.Errorf("read %d outcomes, %d are missing, want %d, bad lines %v", len(got), f.Missing(), missing, f.Bad())
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestALineOfAnOlderFileIsBad: a block that still has the content of an older file is no part of
// this one.
func TestALineOfAnOlderFileIsBad(t *testing.T) {
	path, lines := fourOnDisk(t)
	lines[4] = lines[2]
	if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	if got := all(t, f, 1); len(got) != 3 || f.Missing() != 1 || !reflect.DeepEqual(f.Bad(), []int{5}) {
		t.Errorf("read %d outcomes, %d are missing, bad lines %v", len(got), f.Missing(), f.Bad())
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestADamagedFileIsNotCut: an operator must be able to inspect it.
func TestADamagedFileIsNotCut(t *testing.T) {
	path, lines := fourOnDisk(t)
	for name, damaged := range map[string][]byte{
		"a line is missing":                 bytes.Join(append(lines[:2:2], lines[3:]...), nil),
		"a line is bad, of a first version": bytes.Replace(withoutChecksums(t), []byte(`{"Task"`), []byte(`{Task`), 1),
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, path)
		for range 2 {
			if some, err := f.Next(1); err != nil || len(some) != 1 {
				t.Fatalf("%s: read %+v, %v", name, some, err)
			}
		}
		if err := f.CutTo(f.At()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, damaged) {
			t.Errorf("%s: the file has %q, %v", name, left, err)
		}
	}
}
