// Package spool keeps outcomes on disk that Redis could not be told before a
// stop had to be over, for the next start to report.
//
// It is best effort: a spooled outcome counts only if its record is still in
// flight under the run that wrote it when it is applied; once another sidecar
// has taken the record over, it runs again and the spooled outcome is dropped.
package spool

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// suffix of a file that is complete. One that was cut off in the writing has
// the temporary suffix and is ignored.
const (
	suffix    = ".spool"
	temporary = ".partial"
)

// Header says which Redis the outcomes belong to.
type Header struct {
	Run    string    `json:"run"`
	Server string    `json:"server"` // without credentials
	Prefix string    `json:"prefix"`
	At     time.Time `json:"at"`
}

// Matches reports whether two headers mean the same keys.
func (h Header) Matches(o Header) bool { return h.Server == o.Server && h.Prefix == o.Prefix }

// Prepare makes dir if it is not there, and finds out now whether it can be
// written: when it is needed it is too late to say so.
func Prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// Write stores the outcomes of one run in a file of its own in dir and returns
// its path. When it returns without an error they will survive a power cut.
func Write(dir string, h Header, outcomes []task.Outcome) (path string, err error) {
	path = filepath.Join(dir, h.Run+suffix)
	partial := path + temporary
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(partial)
		}
	}()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	if err = enc.Encode(h); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	for _, o := range outcomes {
		if err = enc.Encode(o); err != nil {
			return "", fmt.Errorf("spool: %w", err)
		}
	}
	if err = w.Flush(); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	if err = f.Sync(); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	if err = f.Close(); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	if err = os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	return path, syncDir(dir)
}

// syncDir makes a rename or a removal last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// File is one spool file, locked by us.
type File struct {
	Header   Header
	Outcomes []task.Outcome
	path     string
	f        *os.File
}

// ErrBusy says that another process has the file.
var ErrBusy = errors.New("spool: another sidecar is applying this file")

// List names the complete files in dir.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// Open locks and reads a file. It returns ErrBusy for one that another process
// has, and fs.ErrNotExist for one that another process has just finished.
func Open(path string) (_ *File, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, ErrBusy
	}
	// It may have been finished and removed between the two.
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &File{path: path, f: f}
	dec := json.NewDecoder(f)
	if err := dec.Decode(&s.Header); err != nil || s.Header.Run == "" {
		return nil, fmt.Errorf("spool: %s is not a spool file", path)
	}
	for {
		var o task.Outcome
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("spool: %s: %w", path, err)
		}
		s.Outcomes = append(s.Outcomes, o)
	}
}

// Remove deletes the file, once Redis has answered for everything in it.
func (s *File) Remove() error {
	if err := os.Remove(s.path); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return errors.Join(syncDir(filepath.Dir(s.path)), s.f.Close())
}

// Close unlocks the file and leaves it there.
func (s *File) Close() error { return s.f.Close() }
