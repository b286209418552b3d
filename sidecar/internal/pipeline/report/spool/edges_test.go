package spool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultfs"
)

// failing makes all operations of one sort fail from now on.
func (s *scene) failing(bad faultfs.Op) {
	s.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
		if op == bad {
			return &faultfs.Fault{Err: unix.EIO}
		}
		return nil
	}
}

// put puts a file in place.
func (s *scene) put(parts ...[]byte) { s.disk.Put(spoolFile, bytes.Join(parts, nil)) }

// opened opens the file.
func (s *scene) opened(t *testing.T) *spool.File {
	t.Helper()
	f, err := s.Open(spoolFile)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lines returns the lines of a file with four outcomes, the header first.
func lines(t *testing.T) [][]byte {
	t.Helper()
	s := newScene()
	if err := s.write(t); err != nil {
		t.Fatal(err)
	}
	return bytes.SplitAfter(bytes.TrimSuffix(s.disk.Get(spoolFile), []byte("\n")), []byte("\n"))
}

// TestWhatCannotBeEncodedIsAnError: no file is made without one of its lines.
func TestWhatCannotBeEncodedIsAnError(t *testing.T) {
	never := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) // JSON has no such year
	for _, c := range []struct {
		header spool.Header
		o      task.Outcome
	}{{spool.Header{Run: "w-1", At: never}, task.Outcome{}}, {header, task.Outcome{EndedAt: never}}} {
		s := newScene()
		if _, err := s.Write(t.Context(), c.header, []task.Outcome{c.o, {}}); err == nil || len(s.disk.Paths()) > 0 {
			t.Errorf("written with %v: %v", err, s.disk.Paths())
		}
	}
}

// TestAWriteEndsWithItsContext: it does not go on with megabytes.
func TestAWriteEndsWithItsContext(t *testing.T) {
	s := newScene()
	writes := 0
	s.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
		if op == faultfs.Write {
			writes++
		}
		return nil
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Write(ended, header, []task.Outcome{{Message: string(make([]byte, 1<<20))}}); err == nil || writes > 0 {
		t.Errorf("%v after %d writes", err, writes)
	}
}

// TestAListThatFails is an error and no empty folder.
func TestAListThatFails(t *testing.T) {
	s := newScene()
	s.failing(faultfs.List)
	if paths, err := s.List(); err == nil {
		t.Errorf("listed %v", paths)
	}
}

// TestHeaders: a file whose header has no line end has lost its outcomes. Unknown members of a
// header are those of another version. A file with a broken header is no spool file.
func TestHeaders(t *testing.T) {
	s := newScene()
	s.put(bytes.TrimSuffix(lines(t)[0], []byte("\n")))
	f := s.opened(t)
	if got := all(t, f, 1); len(got) > 0 || f.Missing() != 4 {
		t.Errorf("read %+v, %d are missing", got, f.Missing())
	}
	for text, want := range map[string]bool{
		`{"run":"w-1","crc":7,"later":1}`: true, // no checksum, since it is not at the end
		`{"run":"w-1","format":"x"}`:      false,
		`{"run":""}`:                      false,
	} {
		s := newScene()
		s.put([]byte(text + "\n"))
		if _, err := s.Open(spoolFile); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestNextEndsAtItsBound: a part that ends exactly there is whole.
func TestNextEndsAtItsBound(t *testing.T) {
	s := newScene()
	all := lines(t)
	s.put(all...)
	if got, err := s.opened(t).Next(len(all[1]) + len(all[2])); err != nil || len(got) != 2 {
		t.Errorf("read %d outcomes, %v", len(got), err)
	}
}

// TestLinesThatAreNoOutcomesOfTheFile: one without a checksum, and one that is there twice.
func TestLinesThatAreNoOutcomesOfTheFile(t *testing.T) {
	plain, err := json.Marshal(struct {
		task.Outcome
		Left int `json:"left"`
	}{four()[1], 2})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"without a checksum": append(plain, '\n'), "twice": lines(t)[1]} {
		s := newScene()
		text := lines(t)
		text[2] = bad
		s.put(text...)
		f := s.opened(t)
		if got := all(t, f, 1); len(got) != 3 || !slices.Equal(f.Bad(), []int{3}) || f.Missing() != 1 {
			t.Errorf("%s: read %d outcomes, bad lines %v, %d are missing", name, len(got), f.Bad(), f.Missing())
		}
	}
}

// TestAReadThatFails: what was read before is returned first, and a part of a line is no bad
// line.
func TestAReadThatFails(t *testing.T) {
	s := newScene()
	long := four()
	long[1].Message = string(bytes.Repeat([]byte("x"), 1<<20))
	if _, err := s.Write(t.Context(), header, long); err != nil {
		t.Fatal(err)
	}
	f := s.opened(t) // with the beginning of the file
	s.failing(faultfs.Read)
	if got, err := f.Next(1 << 30); err != nil || len(got) != 1 || got[0].Task.Delivery != long[0].Task.Delivery {
		t.Errorf("read %d outcomes, %v", len(got), err)
	}
	if got, err := f.Next(1 << 30); err == nil || len(got) > 0 || len(f.Bad()) > 0 {
		t.Errorf("then read %d outcomes, %v; bad lines %v", len(got), err, f.Bad())
	}
}

// TestACutThatFailsOrIsNone: the file stays as it is.
func TestACutThatFailsOrIsNone(t *testing.T) {
	s := newScene()
	s.put(withoutChecksums(t))
	f := s.opened(t)
	s.failing(faultfs.Create)
	if err := f.CutTo(f.At()); err != nil {
		t.Errorf("with nothing to cut: %v", err)
	}
	s.disk.Inject = nil
	f = s.opened(t)
	if _, err := f.Next(1); err != nil {
		t.Fatal(err)
	}
	first := true
	s.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
		if op == faultfs.Read && first {
			first = false
			return &faultfs.Fault{Err: unix.EIO}
		}
		return nil
	}
	if err := f.CutTo(f.At()); err == nil || !bytes.Equal(s.disk.Get(spoolFile), withoutChecksums(t)) {
		t.Errorf("the header cannot be read: %v", err)
	}
}

// TestTheEndsOfAFile: one that cannot be set aside keeps its name, and one that is gone is
// removed.
func TestTheEndsOfAFile(t *testing.T) {
	s := newScene()
	s.put(lines(t)...)
	f := s.opened(t)
	s.failing(faultfs.Rename)
	if path, err := f.SetAside(); err == nil || path != spoolFile {
		t.Errorf("set aside as %s, %v", path, err)
	}
	s.disk.Inject = nil
	f = s.opened(t)
	if err := s.disk.Remove(spoolFile); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil {
		t.Errorf("the removal of a file that is gone: %v", err)
	}
}

// TestPrepareOfAFolderThatIsThere makes nothing durable that was so before.
func TestPrepareOfAFolderThatIsThere(t *testing.T) {
	s := newScene()
	s.failing(faultfs.SyncDir)
	n := 0
	inject := s.disk.Inject
	s.disk.Inject = func(at int, op faultfs.Op) *faultfs.Fault {
		if op == faultfs.SyncDir {
			n++
		}
		return inject(at, op)
	}
	if err := s.Prepare(); err != nil || n > 0 {
		t.Errorf("%v, %d folders are synced", err, n)
	}
}
