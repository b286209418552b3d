package spool_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultfs"
)

// TestADamagedFileHasNoOtherOutcomes damages a file as a crash or a failing disk does, at every
// byte: the rest is missing, the rest is zeros, one page of zeros lies in the middle, or a bit is
// wrong. What is read must be outcomes of the file, whole and each once. The number of those that are
// missing must be told.
func TestADamagedFileHasNoOtherOutcomes(t *testing.T) {
	whole, err := os.ReadFile(write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	disk := faultfs.New(spoolDir)
	d := spool.Folder{Path: spoolDir, FileSystem: disk}
	for at := range len(whole) {
		for name, damaged := range map[string][]byte{
			"cut":   whole[:at],
			"zeros": append(bytes.Clone(whole[:at]), make([]byte, len(whole)-at)...),
			"page":  append(append(bytes.Clone(whole[:at]), make([]byte, min(16, len(whole)-at))...), whole[min(at+16, len(whole)):]...),
			"bit":   append(append(bytes.Clone(whole[:at]), whole[at]^1), whole[at+1:]...),
		} {
			disk.Put(spoolFile, damaged)
			f, err := d.Open(spoolFile)
			if err != nil {
				continue // told: the header is damaged
			}
			if f.Header.Run != header.Run || !f.Header.Matches(header) {
				t.Fatalf("%s at byte %d: another run %+v", name, at, f.Header)
			}
			got := all(t, f, 1)
			rest := outcomes()
			for _, o := range got {
				i := 0
				for i < len(rest) && !reflect.DeepEqual(rest[i], o) {
					i++
				}
				if i == len(rest) {
					t.Fatalf("%s at byte %d: an outcome that the file never had, or had once: %+v", name, at, o)
				}
				rest = append(rest[:i:i], rest[i+1:]...)
			}
			if f.Missing() != len(rest) {
				t.Fatalf("%s at byte %d: %d outcomes are missing, and %d are told to be, bad lines %v", name, at, len(rest), f.Missing(), f.Bad())
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAnUnfinishedFileIsReplaced: a crash during Write leaves a file that no start reads.
func TestAnUnfinishedFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, header.Run+".spool.partial"), bytes.Repeat([]byte("rest of an older, longer file\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if paths, err := (spool.Folder{Path: dir}).List(); err != nil || len(paths) > 0 {
		t.Fatalf("listed %v, %v", paths, err)
	}
	f := open(t, write(t, dir))
	if got := all(t, f, 1<<20); !reflect.DeepEqual(got, outcomes()) || len(f.Bad()) > 0 {
		t.Errorf("read %+v, bad lines %v", got, f.Bad())
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
}

// TestAFailedWriteLeavesNoFile: a full disk, a failing fsync and a failing rename are errors, and
// the next start finds nothing that looks like a whole file.
func TestAFailedWriteLeavesNoFile(t *testing.T) {
	name := header.Run + ".spool"
	for fault, prepare := range map[string]func(dir string) error{
		"the disk is full": func(dir string) error { return os.Symlink("/dev/full", filepath.Join(dir, name+".partial")) },
		"fsync fails":      func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, name+".partial")) },
		"rename fails":     func(dir string) error { return os.MkdirAll(filepath.Join(dir, name, "taken"), 0o700) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		if path, err := (spool.Folder{Path: dir}).Write(t.Context(), header, outcomes()); err == nil {
			t.Errorf("%s: no error, but %s", fault, path)
		}
		if paths, err := (spool.Folder{Path: dir}).List(); err != nil || len(paths) > 0 {
			t.Errorf("%s: listed %v, %v", fault, paths, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name+".partial")); !os.IsNotExist(err) {
			t.Errorf("%s: the partial file is left behind: %v", fault, err)
		}
	}
}
