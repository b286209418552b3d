package spool

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// File is one spool file, locked by this process. It is read in parts, because it may
// not fit into memory.
type File struct {
	Header Header

	files FileSystem
	path  string
	f     Handle
	r     *bufio.Reader
	head  int64 // length of the header line
	total int   // outcomes by the header
	// isChecked reports whether the lines have checksums: those of the first versions have
	// none.
	isChecked bool

	next    Mark
	isRead  bool  // whether an outcome was read
	line    int   // number of the last line that was read
	bad     []int // numbers of the lines that are not outcomes
	missing int
	err     error // of the last read
}

// Mark is a place between two outcomes of a file, for CutTo.
type Mark struct {
	at   int64 // offset of the outcome behind it
	left int   // outcomes behind it, if the file has checksums
}

// ErrBusy reports that another process has locked the file.
var ErrBusy = errors.New("spool: another sidecar is applying this file")

// Open locks and opens a file. It returns ErrBusy if another process has locked it, and
// fs.ErrNotExist if another process has just removed it. A file with a newer format is an
// error, and stays as it is.
func (d Folder) Open(path string) (*File, error) {
	for {
		f, err := d.files().Open(path)
		if err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		is, err := lock(f, path)
		switch {
		case err != nil:
			_ = f.Close()
			return nil, err
		case is:
			s, err := d.read(f, path)
			if err != nil {
				_ = f.Close()
			}
			return s, err
		}
		_ = f.Close() // another process has cut the file between open and lock
	}
}

// lock locks a file and reports whether the path still names it.
func lock(f Handle, path string) (bool, error) {
	if err := f.Lock(); err != nil {
		return false, fmt.Errorf("spool: %w", err)
	}
	is, err := f.IsAt(path)
	if err != nil {
		return false, fmt.Errorf("spool: %w", err)
	}
	return is, nil
}

// read reads the header of a file.
func (d Folder) read(f Handle, path string) (*File, error) {
	s := &File{files: d.files(), path: path, f: f, r: bufio.NewReaderSize(f, maxHeader), line: 1}
	text, err := s.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var h headerLine
	if json.Unmarshal(text, &h) != nil || h.Run == "" {
		return nil, fmt.Errorf("spool: %s is not a spool file", path)
	}
	if h.Format > format {
		return nil, fmt.Errorf("spool: %s has format %d, and this version reads 1 to %d: it is left for the version that wrote it", path, h.Format, format)
	}
	if s.isChecked, err = checkLine(text); err != nil {
		return nil, fmt.Errorf("spool: %s has a damaged first line: %w", path, err)
	}
	s.Header, s.total, s.head = h.Header, h.Outcomes, int64(len(text))
	s.next.at = s.head
	return s, nil
}

// Path returns the path of the file.
func (s *File) Path() string { return s.path }

// Next reads the following outcomes: as many as fit into the given number of bytes of
// the file, but at least one, and none at the end of the file. It skips lines that do
// not parse, see Bad and Missing. What was read before an error is returned first.
func (s *File) Next(most int) (outcomes []task.Outcome, err error) {
	for size := 0; size < most && s.err == nil; {
		var text []byte
		text, s.err = s.r.ReadBytes('\n')
		if len(text) > 0 && (s.err == nil || errors.Is(s.err, io.EOF)) {
			s.line++
			s.next.at += int64(len(text))
			size += len(text)
			if o, ok := s.parse(text); ok {
				outcomes = append(outcomes, o)
			} else {
				s.bad = append(s.bad, s.line)
			}
		}
		if len(outcomes) == 0 {
			size = 0 // of lines that are not outcomes
		}
		if errors.Is(s.err, io.EOF) {
			s.countEnd()
		}
	}
	if len(outcomes) > 0 || s.err == nil || errors.Is(s.err, io.EOF) {
		return outcomes, nil
	}
	return nil, fmt.Errorf("spool: %s: %w", s.path, s.err)
}

// parse returns the outcome of a line.
func (s *File) parse(text []byte) (task.Outcome, bool) {
	if s.isChecked {
		if has, err := checkLine(text); !has || err != nil {
			return task.Outcome{}, false
		}
	}
	var l outcomeLine
	if json.Unmarshal(text, &l) != nil {
		return task.Outcome{}, false
	}
	if s.isChecked {
		switch {
		case s.isRead && l.Left >= s.next.left:
			return task.Outcome{}, false // a block of an older file
		case s.isRead:
			s.missing += s.next.left - l.Left - 1
		case len(s.bad) > 0:
			s.missing += max(0, s.total-l.Left-1)
		default:
			// Versions without checksums cut the head of a file and keep its header.
		}
		s.isRead, s.next.left = true, l.Left
	}
	return l.Outcome, true
}

// countEnd counts the outcomes that are missing at the end of the file.
func (s *File) countEnd() {
	switch {
	case !s.isChecked:
	case s.isRead:
		s.missing += s.next.left
	default:
		s.missing += s.total
	}
}

// At returns the place in front of the next outcome.
func (s *File) At() Mark { return s.next }

// Bad returns the numbers of the skipped lines.
func (s *File) Bad() []int { return s.bad }

// Missing returns the number of outcomes that were written to the file and were not found in
// it, those of skipped lines included. Only at the end of the file it has all of them. It is
// 0 for files of the first versions.
func (s *File) Missing() int { return s.missing }

// CutTo removes the outcomes before a place that At has returned, and closes the file.
func (s *File) CutTo(m Mark) (err error) {
	if m.at == s.head || len(s.bad) > 0 || s.missing > 0 {
		return s.Close() // nothing to cut, or a damaged file that an operator must inspect
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	head, err := s.headFor(m)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return publish(context.Background(), s.files, s.path, func(w io.Writer) error {
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := io.Copy(w, io.NewSectionReader(s.f, m.at, math.MaxInt64-m.at))
		return err
	})
}

// headFor returns the first line of the file that remains after a cut.
func (s *File) headFor(m Mark) ([]byte, error) {
	if s.isChecked {
		return encodeLine(headerLine{Header: s.Header, Outcomes: m.left})
	}
	head := make([]byte, s.head)
	_, err := s.f.ReadAt(head, 0)
	return head, err
}

// SetAside renames the file, so that no start reads it again, closes it and returns its
// new path.
func (s *File) SetAside() (path string, err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	path = s.path + aside
	if err := s.files.Rename(s.path, path); err != nil {
		return s.path, fmt.Errorf("spool: %w", err)
	}
	return path, syncDir(s.files, filepath.Dir(path))
}

// Remove deletes the file, once Redis has answered for every outcome in it.
func (s *File) Remove() (err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.files.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return syncDir(s.files, filepath.Dir(s.path))
}

// Close unlocks and keeps the file.
func (s *File) Close() error { return s.f.Close() }
