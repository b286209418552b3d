// Package spool stores outcomes on disk that could not be reported to Redis before the
// end of a stop. The next start reports them.
//
// It is best effort: a spooled outcome counts only if its record is still in flight
// under the run that wrote it. Once another sidecar has taken the record over, it runs
// again and the spooled outcome is dropped.
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

// suffix is the suffix of a complete file. A file whose writing was interrupted has the
// temporary suffix and is ignored.
const (
	suffix    = ".spool"
	temporary = ".partial"
	aside     = ".unreadable" // suffix of a file with lines that are not outcomes
)

// maxHeader is the maximum number of bytes of the header line. It rejects files of
// another kind, such as one that a failing disk has filled with zeros: reading one to
// the end of its first line once took more memory than there was, at each start.
const maxHeader = 64 << 10

// format is the format of the files. A change after which an older version would misread
// a file raises it.
const format = 1

// Header identifies the Redis and the run of the outcomes.
type Header struct {
	// Format is the format of the file; 0 means 1, in files of the first versions.
	Format int       `json:"format"`
	Run    string    `json:"run"`
	Server string    `json:"server"` // without credentials
	Prefix string    `json:"prefix"`
	At     time.Time `json:"at"`
}

// Matches reports whether two headers mean the same keys.
func (h Header) Matches(o Header) bool { return h.Server == o.Server && h.Prefix == o.Prefix }

// Prepare makes dir if it does not exist, and checks at the start that it can be
// written. The error is a *config.Error.
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

// Write stores the outcomes of one run in a new file in dir and returns its path. After
// a nil error they survive a power failure.
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
	h.Format = format
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

// syncDir makes a rename or a removal durable.
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

// File is one spool file, locked by this process. It is read in parts, because it may
// not fit into memory.
type File struct {
	Header Header

	path string
	f    *os.File
	r    *bufio.Reader
	head int64 // length of the header line
	at   int64 // offset of the next outcome
	line int   // number of the last line that was read
	bad  []int // numbers of the lines that are not outcomes
}

// ErrBusy reports that another process has locked the file.
var ErrBusy = errors.New("spool: another sidecar is applying this file")

// List returns the names of the complete files in dir.
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

// Open locks and opens a file. It returns ErrBusy if another process has locked it, and
// fs.ErrNotExist if another process has just removed it. A file with a newer format is an
// error, and stays as it is.
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
	// Another process may have removed the file between open and lock.
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
	if s.Header.Format > format {
		return nil, fmt.Errorf("spool: %s has format %d, and this version reads 1 to %d: it is left for the version that wrote it", path, s.Header.Format, format)
	}
	s.head = int64(len(text))
	s.at = s.head
	return s, nil
}

// Path returns the path of the file.
func (s *File) Path() string { return s.path }

// Next reads the following outcomes: as many as fit into the given number of bytes of
// the file, but at least one, and none at the end of the file. It skips lines that do
// not parse, see Bad.
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
			size = 0 // of lines that are not outcomes
		}
	}
	return outcomes, nil
}

// At returns the offset of the next outcome, for CutTo.
func (s *File) At() int64 { return s.at }

// Bad returns the numbers of the skipped lines.
func (s *File) Bad() []int { return s.bad }

// CutTo removes the outcomes before an offset that At has returned, and closes the
// file.
func (s *File) CutTo(at int64) (err error) {
	if at == s.head || len(s.bad) > 0 {
		return s.Close() // nothing to cut, or skipped lines that an operator must inspect
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

// SetAside renames the file, so that no start reads it again, closes it and returns its
// new path.
func (s *File) SetAside() (path string, err error) {
	path = s.path + aside
	if err := os.Rename(s.path, path); err != nil {
		return "", errors.Join(fmt.Errorf("spool: %w", err), s.Close())
	}
	return path, errors.Join(syncDir(filepath.Dir(path)), s.Close())
}

// Remove deletes the file, once Redis has answered for every outcome in it.
func (s *File) Remove() error {
	if err := os.Remove(s.path); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return errors.Join(syncDir(filepath.Dir(s.path)), s.f.Close())
}

// Close unlocks and keeps the file.
func (s *File) Close() error { return s.f.Close() }
