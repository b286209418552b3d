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
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// suffix of a file that is complete. One that was cut off in the writing has
// the temporary suffix and is ignored.
const (
	suffix    = ".spool"
	temporary = ".partial"
	aside     = ".unreadable" // of one that holds lines that are no outcomes
)

// maxHeader is the most bytes of a header's line. A file of another kind, such as one that
// a failing disk has filled with zeros, is told by that: it was read whole to find the end
// of its first line, which took more memory than there was, at each start.
const maxHeader = 64 << 10

// Header says which Redis the outcomes belong to.
type Header struct {
	Run    string    `json:"run"`
	Server string    `json:"server"` // without credentials
	Prefix string    `json:"prefix"`
	At     time.Time `json:"at"`
}

// Matches reports whether two headers mean the same keys.
func (h Header) Matches(o Header) bool { return h.Server == o.Server && h.Prefix == o.Prefix }

// Prepare makes dir if it is not there, and finds out at the start whether it can be
// written: an error when it is needed would come too late. The error is a *config.Error.
func Prepare(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".probe-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return &config.Error{Err: fmt.Errorf("SIDECAR_SPOOL_DIR cannot be used: %w", err)}
	}
	return nil
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

// File is one spool file, locked by us. It is read in parts: what is in it may be
// more than there is memory for.
type File struct {
	Header Header

	path string
	f    *os.File
	r    *bufio.Reader
	head int64 // bytes of the header's line
	at   int64 // where the next outcome begins
	line int   // the last one that was read
	bad  []int // lines that hold no outcome
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
	s := &File{path: path, f: f, r: bufio.NewReaderSize(f, maxHeader), line: 1}
	text, err := s.r.ReadSlice('\n')
	if json.Unmarshal(text, &s.Header) != nil || s.Header.Run == "" {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("spool: %w", err)
		}
		return nil, fmt.Errorf("spool: %s is not a spool file", path)
	}
	s.head = int64(len(text))
	s.at = s.head
	return s, nil
}

// Path is where the file is.
func (s *File) Path() string { return s.path }

// Next reads the outcomes that follow: as many as have so many bytes in the file, but
// one at least, and none at the end of the file. A line that holds no outcome is
// passed over, see Bad.
func (s *File) Next(most int) (outcomes []task.Outcome, err error) {
	for size := 0; size < most; {
		text, err := s.r.ReadBytes('\n')
		if len(text) > 0 {
			s.line++
			s.at += int64(len(text))
			size += len(text)
			var o task.Outcome
			if json.Unmarshal(text, &o) == nil {
				outcomes = append(outcomes, o)
			} else {
				s.bad = append(s.bad, s.line)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return outcomes, nil
		case err != nil:
			return outcomes, fmt.Errorf("spool: %s: %w", s.path, err)
		case len(outcomes) == 0:
			size = 0 // of lines that hold none
		}
	}
	return outcomes, nil
}

// At is where the next outcome begins, for CutTo.
func (s *File) At() int64 { return s.at }

// Bad are the numbers of the lines that were passed over.
func (s *File) Bad() []int { return s.bad }

// CutTo leaves in the file what begins at a place that At has told, and closes it.
func (s *File) CutTo(at int64) (err error) {
	if at == s.head || len(s.bad) > 0 {
		return s.Close() // all of it, or lines that are to be looked at
	}
	partial := s.path + temporary
	rest, err := os.OpenFile(partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("spool: %w", err), s.Close())
	}
	for _, part := range []struct{ from, length int64 }{{0, s.head}, {at, math.MaxInt64 - at}} {
		if err == nil {
			_, err = io.Copy(rest, io.NewSectionReader(s.f, part.from, part.length))
		}
	}
	if err == nil {
		err = rest.Sync()
	}
	if err = errors.Join(err, rest.Close()); err == nil {
		err = os.Rename(partial, s.path)
	}
	if err != nil {
		_ = os.Remove(partial)
		return errors.Join(fmt.Errorf("spool: %w", err), s.Close())
	}
	return errors.Join(syncDir(filepath.Dir(s.path)), s.Close())
}

// SetAside renames the file, so that no start reads it again, closes it and returns
// its new path.
func (s *File) SetAside() (path string, err error) {
	path = s.path + aside
	if err := os.Rename(s.path, path); err != nil {
		return "", errors.Join(fmt.Errorf("spool: %w", err), s.Close())
	}
	return path, errors.Join(syncDir(filepath.Dir(path)), s.Close())
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
