package faultfs

import (
	"bytes"
	"iter"
	"path/filepath"
)

// Crashes returns the file systems that a power failure at this moment may leave. Of the
// changes of entries that are not synced any may be missing; each file whose content is not
// synced has its old content, a part of the new one, or zeros in place of the rest.
func (f *FS) Crashes() iter.Seq[*FS] {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*FS
	for kept := range 1 << len(f.changes) {
		entries := make(map[string]*node, len(f.durable))
		put(entries, f.durable)
		for i, c := range f.changes {
			if kept>>i&1 == 1 {
				put(entries, c)
			}
		}
		all = append(all, variants(entries)...)
	}
	return func(yield func(*FS) bool) {
		for _, c := range all {
			if !yield(c) {
				return
			}
		}
	}
}

// variants returns a file system for each content that one of the files may have; the others
// have the old one, and once more the new one.
func variants(entries map[string]*node) (list []*FS) {
	reachable := func(path string) bool {
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			if entries[dir] == nil {
				return false
			}
			if dir == "/" {
				return true
			}
		}
	}
	build := func(content func(path string, n *node) []byte) {
		c := New("/")
		for path, n := range entries {
			switch {
			case path == "/" || !reachable(path):
			case n.folder:
				folder := &node{folder: true}
				c.entries[path], c.durable[path] = folder, folder
			default:
				c.Put(path, content(path, n))
			}
		}
		list = append(list, c)
	}
	build(func(_ string, n *node) []byte { return n.synced })
	build(func(_ string, n *node) []byte { return n.data })
	for dirty, n := range entries {
		if n.folder || bytes.Equal(n.data, n.synced) {
			continue
		}
		for _, content := range contents(n.data) {
			build(func(path string, n *node) []byte {
				if path == dirty {
					return content
				}
				return n.synced
			})
		}
	}
	return list
}

// stride is the distance of the places at which contents cuts within lines.
const stride = 31

// contents returns the parts of a file that may have reached the disk: up to each line end,
// to the byte before it and to places between, with nothing or with zeros behind.
func contents(data []byte) (list [][]byte) {
	for at := range data {
		if at%stride != 0 && data[at] != '\n' && (at == 0 || data[at-1] != '\n') {
			continue
		}
		list = append(list, data[:at], append(bytes.Clone(data[:at]), make([]byte, len(data)-at)...))
	}
	return list
}
