// Package faultfs is a file system in memory for the spool, in which a test makes any
// operation fail or hang, and which tells what a power failure may leave.
package faultfs

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
)

// Op is the name of an operation.
type Op string

// The operations.
const (
	Mkdir   Op = "mkdir"
	Exists  Op = "exists"
	Create  Op = "create"
	Open    Op = "open"
	Rename  Op = "rename"
	Remove  Op = "remove"
	List    Op = "list"
	SyncDir Op = "fsync of the folder"
	Read    Op = "read"
	Write   Op = "write"
	Sync    Op = "fsync"
	Lock    Op = "lock"
	Stat    Op = "stat"
	Close   Op = "close"
)

// FS is the file system. Its root is "/". The exported fields are set before it is used.
type FS struct {
	// Inject returns the fault of an operation, or nil. Operations count from 0.
	Inject func(n int, op Op) *Fault
	// After is called after each operation.
	After func(n int, op Op)
	// NoSync and NoSyncDir make fsync do nothing, of files and of folders.
	NoSync, NoSyncDir bool
	// Resume ends the hangs, once it is closed.
	Resume chan struct{}

	mu       sync.Mutex
	n        int
	entries  map[string]*node // as the process sees them
	durable  map[string]*node // as the disk has them
	changes  []change         // of entries, not durable yet
	locked   map[*node]bool
	injected int
}

// node is a file or a folder.
type node struct {
	folder bool
	data   []byte
	synced []byte // what the disk has
}

// change is a change of entries of one folder that is made as a whole; a nil node removes
// one.
type change map[string]*node

// New returns a file system with one folder.
func New(folder string) *FS {
	f := &FS{entries: map[string]*node{"/": {folder: true}}, durable: map[string]*node{}, locked: map[*node]bool{}, Resume: make(chan struct{})}
	for dir := folder; dir != "/"; dir = filepath.Dir(dir) {
		f.entries[dir] = &node{folder: true}
	}
	maps.Copy(f.durable, f.entries)
	return f
}

// Put makes a file that is durable.
func (f *FS) Put(path string, content []byte) {
	n := &node{data: bytes.Clone(content), synced: bytes.Clone(content)}
	f.entries[path], f.durable[path] = n, n
}

// Get returns the content of a file; nil without one.
func (f *FS) Get(path string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.entries[path]; n != nil {
		return append([]byte{}, n.data...)
	}
	return nil
}

// Paths returns the paths of the files.
func (f *FS) Paths() (paths []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, n := range f.entries {
		if !n.folder {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// Count returns the number of operations so far.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Injected returns the number of faults so far.
func (f *FS) Injected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.injected
}

// do runs one operation with its fault.
func (f *FS) do(op Op, path string, act func(fault *Fault) error) error {
	f.mu.Lock()
	n := f.n
	f.n++
	var fault *Fault
	if f.Inject != nil {
		if fault = f.Inject(n, op); fault != nil {
			f.injected++
		}
	}
	f.mu.Unlock()
	if fault != nil && fault.Hang {
		<-f.Resume
		fault = nil
	}
	f.mu.Lock()
	var err error
	if fault == nil || fault.Err == nil || fault.Applied {
		err = act(fault)
	}
	if fault != nil && fault.Err != nil {
		err = &fs.PathError{Op: string(op), Path: path, Err: fault.Err}
	}
	f.mu.Unlock()
	if f.After != nil {
		f.After(n, op)
	}
	return err
}

func missing(op Op, path string) error {
	return &fs.PathError{Op: string(op), Path: path, Err: fs.ErrNotExist}
}

// apply makes a change for the process.
func (f *FS) apply(c change) {
	f.changes = append(f.changes, c)
	put(f.entries, c)
}

func put(entries map[string]*node, c change) {
	for path, n := range c {
		if n == nil {
			delete(entries, path)
		} else {
			entries[path] = n
		}
	}
}

// MkdirAll implements [spool.FileSystem].
func (f *FS) MkdirAll(dir string) error {
	return f.do(Mkdir, dir, func(*Fault) error {
		var grown []string
		for ; f.entries[dir] == nil; dir = filepath.Dir(dir) {
			grown = append(grown, dir)
		}
		for _, dir := range slices.Backward(grown) {
			f.apply(change{dir: {folder: true}})
		}
		return nil
	})
}

// Exists implements [spool.FileSystem].
func (f *FS) Exists(path string) (is bool) {
	err := f.do(Exists, path, func(*Fault) error { is = f.entries[path] != nil; return nil })
	return is && err == nil
}

// Create implements [spool.FileSystem].
func (f *FS) Create(path string) (h spool.Handle, err error) {
	err = f.do(Create, path, func(*Fault) error {
		if f.entries[filepath.Dir(path)] == nil {
			return missing(Create, path)
		}
		n := f.entries[path]
		if n == nil {
			n = new(node)
			f.apply(change{path: n})
		}
		n.data = nil
		h = &handle{f: f, n: n, path: path}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Open implements [spool.FileSystem].
func (f *FS) Open(path string) (h spool.Handle, err error) {
	err = f.do(Open, path, func(*Fault) error {
		n := f.entries[path]
		if n == nil {
			return missing(Open, path)
		}
		h = &handle{f: f, n: n, path: path}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Rename implements [spool.FileSystem].
func (f *FS) Rename(from, to string) error {
	return f.do(Rename, from, func(*Fault) error {
		n := f.entries[from]
		if n == nil {
			return missing(Rename, from)
		}
		f.apply(change{from: nil, to: n})
		return nil
	})
}

// Remove implements [spool.FileSystem].
func (f *FS) Remove(path string) error {
	return f.do(Remove, path, func(*Fault) error {
		if f.entries[path] == nil {
			return missing(Remove, path)
		}
		f.apply(change{path: nil})
		return nil
	})
}

// List implements [spool.FileSystem].
func (f *FS) List(dir string) (names []string, err error) {
	err = f.do(List, dir, func(*Fault) error {
		if f.entries[dir] == nil {
			return missing(List, dir)
		}
		for path, n := range f.entries {
			if !n.folder && filepath.Dir(path) == dir {
				names = append(names, filepath.Base(path))
			}
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

// SyncDir implements [spool.FileSystem].
func (f *FS) SyncDir(dir string) error {
	return f.do(SyncDir, dir, func(*Fault) error {
		if f.NoSyncDir {
			return nil
		}
		f.changes = slices.DeleteFunc(f.changes, func(c change) bool {
			if !c.in(dir) {
				return false
			}
			put(f.durable, c)
			return true
		})
		return nil
	})
}

// in reports whether the entries are of a folder.
func (c change) in(dir string) bool {
	for path := range c {
		return filepath.Dir(path) == dir
	}
	return false
}

// handle is an open file.
type handle struct {
	f      *FS
	n      *node
	path   string
	at     int64
	locked bool
}

func (h *handle) Read(p []byte) (n int, err error) {
	n, err = h.read(p, h.at)
	h.at += int64(n)
	return n, err
}

func (h *handle) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) && err == nil {
		var some int
		some, err = h.read(p[n:], at+int64(n))
		n += some
	}
	return n, err
}

func (h *handle) read(p []byte, at int64) (n int, err error) {
	fault := h.f.do(Read, h.path, func(fault *Fault) error {
		if at >= int64(len(h.n.data)) {
			err = io.EOF
			return nil
		}
		if fault != nil && fault.Part {
			p = p[:(min(len(p), len(h.n.data)-int(at))+1)/2]
		}
		n = copy(p, h.n.data[at:])
		return nil
	})
	if fault != nil {
		err = fault
	}
	return n, err
}

func (h *handle) Write(p []byte) (n int, err error) {
	err = h.f.do(Write, h.path, func(fault *Fault) error {
		n = len(p)
		if fault != nil && fault.Part {
			n /= 2
		}
		h.n.data = append(slices.Clip(h.n.data), p[:n]...)
		return nil
	})
	return n, err
}

func (h *handle) Sync() error {
	return h.f.do(Sync, h.path, func(fault *Fault) error {
		switch {
		case fault != nil && fault.Lost:
			h.n.data = bytes.Clone(h.n.synced)
		case !h.f.NoSync:
			h.n.synced = bytes.Clone(h.n.data)
		}
		return nil
	})
}

func (h *handle) Lock() error {
	return h.f.do(Lock, h.path, func(*Fault) error {
		if h.f.locked[h.n] {
			return spool.ErrBusy
		}
		h.f.locked[h.n], h.locked = true, true
		return nil
	})
}

func (h *handle) IsAt(path string) (is bool, err error) {
	err = h.f.do(Stat, path, func(*Fault) error {
		n := h.f.entries[path]
		if n == nil {
			return missing(Stat, path)
		}
		is = n == h.n
		return nil
	})
	return is, err
}

func (h *handle) Close() error {
	return h.f.do(Close, h.path, func(*Fault) error {
		if h.locked {
			delete(h.f.locked, h.n)
		}
		return nil
	})
}

// String lists the files with their lengths.
func (f *FS) String() string {
	var b strings.Builder
	for _, path := range f.Paths() {
		b.WriteString(path + ": " + string(f.Get(path)) + "\n")
	}
	return b.String()
}

// Restart ends the process that uses the file system, without a power failure: its locks are
// gone, and what it wrote is there.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.locked)
}
