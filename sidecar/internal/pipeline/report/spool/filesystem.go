package spool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FileSystem is what a [Folder] needs of a file system. Outside of tests it is that of the
// operating system; tests make each operation fail, hang or crash.
type FileSystem interface {
	MkdirAll(dir string) error
	// Exists reports whether there is a file or a directory.
	Exists(path string) bool
	// Create opens a file for writing, empty.
	Create(path string) (Handle, error)
	Open(path string) (Handle, error)
	Rename(from, to string) error
	Remove(path string) error
	// List returns the names of the regular files in a directory.
	List(dir string) ([]string, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
}

// Handle is an open file.
type Handle interface {
	io.Reader
	io.ReaderAt
	io.Writer
	Sync() error
	// Lock locks the file until it is closed. It returns ErrBusy if another process has
	// locked it.
	Lock() error
	// IsAt reports whether the path names this very file.
	IsAt(path string) (bool, error)
	Close() error
}

// osFileSystem is the file system of the operating system.
type osFileSystem struct{}

func (osFileSystem) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFileSystem) Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (osFileSystem) Create(path string) (Handle, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osHandle{f}, nil
}

func (osFileSystem) Open(path string) (Handle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return osHandle{f}, nil
}

func (osFileSystem) Rename(from, to string) error { return os.Rename(from, to) }

func (osFileSystem) Remove(path string) error { return os.Remove(path) }

func (osFileSystem) List(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (osFileSystem) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// osHandle is a file of the operating system.
type osHandle struct{ *os.File }

// Lock implements [Handle]. Errors other than a held lock, such as that of an NFS server
// without locks, once hid a file as if another sidecar reported it.
func (h osHandle) Lock() error {
	for {
		err := unix.Flock(int(h.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrBusy
		case err != nil:
			return &fs.PathError{Op: "lock", Path: h.Name(), Err: err}
		default:
			return nil
		}
	}
}

func (h osHandle) IsAt(path string) (bool, error) {
	there, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	here, err := h.Stat()
	return os.SameFile(here, there), err // false without here
}

// parents returns the directories whose entries MkdirAll of dir would add to.
func parents(files FileSystem, dir string) (list []string) {
	for !files.Exists(dir) {
		parent := filepath.Dir(dir)
		list = append(list, parent)
		if parent == dir {
			break
		}
		dir = parent
	}
	return list
}
