package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"
)

// TestTheFileSystemOfTheSystem: what it reports of files that are gone, closed or replaced.
func TestTheFileSystemOfTheSystem(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, p := range []string{path, other} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (Folder{}).Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of no file: %v", err)
	}
	h, err := osFileSystem{}.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{path: true, other: false} {
		if is, err := h.IsAt(p); is != want || err != nil {
			t.Errorf("is at %s: %t, %v", p, is, err)
		}
	}
	if is, err := h.IsAt(filepath.Join(dir, "none")); is || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("is at no file: %t, %v", is, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if is, err := h.IsAt(path); is || err == nil {
		t.Errorf("closed, and is there: %t, %v", is, err)
	}
	if err := h.Lock(); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("closed, and the lock is %v", err)
	}
	if err := (osFileSystem{}).SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sync of no folder: %v", err)
	}
}

// TestNoDescriptorIsLeftOpen after files were written, read and refused.
func TestNoDescriptorIsLeftOpen(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection closes lost files
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	d := Folder{Path: t.TempDir()}
	wrong := filepath.Join(d.Path, "wrong.spool")
	if err := os.WriteFile(wrong, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := count()
	for range 5 {
		path, err := d.Write(t.Context(), Header{Run: "w-1", At: time.Unix(1000, 0)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := d.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Remove(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Open(wrong); err == nil || errors.Is(err, ErrBusy) {
			t.Errorf("opened with %v", err)
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, and %d before", after, before)
	}
}
