// Package spool stores outcomes on disk that could not be reported to Redis before the
// end of a stop. The next start reports them.
//
// It is best effort: a spooled outcome counts only if its record is still in flight
// under the run that wrote it. Once another sidecar has taken the record over, it runs
// again and the spooled outcome is dropped.
package spool

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
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
	aside     = ".unreadable" // suffix of a damaged file
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

// Folder is a directory of spool files. Its operations block for as long as the file system
// does.
type Folder struct {
	Path string
	// FileSystem is that of the operating system, if nil.
	FileSystem FileSystem
}

func (d Folder) files() FileSystem {
	if d.FileSystem == nil {
		return osFileSystem{}
	}
	return d.FileSystem
}

// passing are errors of a disk that is full or fails. They say nothing about the setting, and
// may be over by the time of the stop.
var passing = []error{
	unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.ESTALE, unix.ETIMEDOUT, unix.EINTR, unix.EAGAIN, unix.EBUSY,
	unix.EMFILE, unix.ENFILE, unix.ENOMEM,
}

// Prepare makes the directory if it does not exist, and checks at the start that it can be
// written. The error is a *config.Error, unless the disk is full or fails.
func (d Folder) Prepare() error {
	files := d.files()
	grown := parents(files, d.Path)
	err := files.MkdirAll(d.Path)
	if err == nil {
		for _, parent := range grown {
			_ = files.SyncDir(parent) // a parent that cannot be read is no fault of the spool
		}
		probe := filepath.Join(d.Path, ".probe-"+rand.Text())
		var f Handle
		if f, err = files.Create(probe); err == nil {
			err = errors.Join(f.Close(), files.Remove(probe))
		}
	}
	switch {
	case err == nil:
		return nil
	case slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }):
		return fmt.Errorf("spool: %w", err)
	default:
		return &config.Error{Err: fmt.Errorf("SIDECAR_SPOOL_DIR cannot be used: %w", err)}
	}
}

// Write stores the outcomes of one run in a new file and returns its path. After a nil error
// they survive a power failure. It makes no complete file after the end of ctx.
func (d Folder) Write(ctx context.Context, h Header, outcomes []task.Outcome) (path string, err error) {
	path = filepath.Join(d.Path, h.Run+suffix)
	h.Format = format
	return path, publish(ctx, d.files(), path, func(w io.Writer) error {
		if err := writeLine(w, headerLine{Header: h, Outcomes: len(outcomes)}); err != nil {
			return err
		}
		for i := range outcomes {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := writeLine(w, outcomeLine{Outcome: outcomes[i], Left: len(outcomes) - 1 - i}); err != nil {
				return err
			}
		}
		return nil
	})
}

// publish makes or replaces a file, unless ctx ends before. At any moment the file has either
// its old content or all of the new one.
func publish(ctx context.Context, files FileSystem, path string, content func(w io.Writer) error) error {
	partial := path + temporary
	f, err := files.Create(partial)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if err = content(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), context.Cause(ctx)); err == nil {
		err = files.Rename(partial, path)
	}
	if err != nil {
		_ = files.Remove(partial)
		return fmt.Errorf("spool: %w", err)
	}
	return syncDir(files, filepath.Dir(path))
}

// syncDir makes a rename or a removal durable.
func syncDir(files FileSystem, dir string) error {
	if err := files.SyncDir(dir); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// List returns the names of the complete files.
func (d Folder) List() ([]string, error) {
	names, err := d.files().List(d.Path)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var paths []string
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			paths = append(paths, filepath.Join(d.Path, name))
		}
	}
	return paths, nil
}
