package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultfs"
)

const (
	spoolDir  = "/var/spool"
	spoolFile = spoolDir + "/w-1.spool"
)

// four are the outcomes of these tests.
func four() []task.Outcome {
	list := outcomes()
	for _, id := range []string{"w-1.3", "w-1.4"} {
		list = append(list, task.Outcome{Task: task.Task{Delivery: id, Record: []byte(id)}, Conclusion: task.Failed, Message: "no"})
	}
	return list
}

// scene is a spool on a file system with faults.
type scene struct {
	spool.Folder
	disk *faultfs.FS
	// answered are the deliveries of the outcomes that were read and count as reported.
	answered map[string]bool
	// stored reports that Write has returned without an error.
	stored bool
}

func newScene() *scene {
	f := faultfs.New(spoolDir)
	return &scene{disk: f, Folder: spool.Folder{Path: spoolDir, FileSystem: f}, answered: map[string]bool{}}
}

// spooled puts a file with the four outcomes in place, as damage leaves it.
func (s *scene) spooled(t *testing.T, damage func([]byte) []byte) {
	t.Helper()
	made := newScene()
	if err := made.write(t); err != nil {
		t.Fatal(err)
	}
	s.disk.Put(spoolFile, damage(made.disk.Get(spoolFile)))
	s.stored = true
}

func (s *scene) write(t *testing.T) error {
	_, err := s.Write(t.Context(), header, four())
	s.stored = err == nil
	return err
}

// replay reads a file in parts as a start does: it stops and cuts the file after the second
// outcome, opens it again, reads the rest, and removes it or sets it aside.
func (s *scene) replay(*testing.T) error {
	for _, parts := range []int{2, 1 << 20} {
		f, err := s.Open(spoolFile)
		if err != nil {
			return err
		}
		from := f.At()
		for range parts {
			var batch []task.Outcome
			if batch, err = f.Next(1); err != nil || len(batch) == 0 {
				break
			}
			for _, o := range batch {
				s.answered[o.Task.Delivery] = true
			}
			from = f.At()
		}
		switch {
		case err != nil || parts == 2:
			err = errors.Join(err, f.CutTo(from))
		case len(f.Bad()) > 0 || f.Missing() > 0:
			_, err = f.SetAside()
		default:
			err = f.Remove()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check reads what a later start finds on a healthy disk, which must be all that was stored
// and has not been answered. damaged is set if the file was damaged beforehand.
func (s *scene) check(disk *faultfs.FS, damaged bool) error {
	d := spool.Folder{Path: spoolDir, FileSystem: disk}
	paths, err := d.List()
	if err != nil {
		return err
	}
	found, told := map[string]bool{}, slices.Contains(disk.Paths(), spoolFile+".unreadable")
	for _, path := range paths {
		f, err := d.Open(path)
		if err != nil {
			return fmt.Errorf("%s cannot be used: %w", path, err)
		}
		if f.Header != header {
			return fmt.Errorf("%s has the header %+v", path, f.Header)
		}
		rest := four()
		for {
			batch, err := f.Next(1)
			if err != nil {
				return err
			}
			if len(batch) == 0 {
				break
			}
			for _, o := range batch {
				i := slices.IndexFunc(rest, func(r task.Outcome) bool { return reflect.DeepEqual(r, o) })
				if i < 0 {
					return fmt.Errorf("%s has another outcome, or one twice: %+v", path, o)
				}
				rest = slices.Delete(rest, i, i+1)
				found[o.Task.Delivery] = true
			}
		}
		told = told || f.Missing() > 0
		if !damaged && (len(f.Bad()) > 0 || f.Missing() > 0) {
			return fmt.Errorf("%s has bad lines %v, and %d outcomes are missing", path, f.Bad(), f.Missing())
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if damaged && !told {
		return errors.New("nothing tells of the damage any more")
	}
	if !s.stored || damaged {
		return nil
	}
	for _, o := range four() {
		if id := o.Task.Delivery; !found[id] && !s.answered[id] {
			return fmt.Errorf("%s is gone, and was not answered", id)
		}
	}
	return nil
}

// checkNow checks the disk as it is, and as a power failure at this moment may leave it. It
// skips the states that it has seen, and returns the number of the others.
func (s *scene) checkNow(damaged bool, seen map[string]bool) (states int, err error) {
	s.disk.Inject, s.disk.After = nil, nil
	known := fmt.Sprint(s.stored, damaged, s.answered)
	if err := s.check(s.disk, damaged); err != nil && !strings.Contains(err.Error(), spool.ErrBusy.Error()) {
		return 1, err
	}
	for c := range s.disk.Crashes() {
		key := known + c.String()
		if seen[key] {
			continue
		}
		seen[key] = true
		states++
		if err := s.check(c, damaged); err != nil {
			return states, fmt.Errorf("after a power failure: %w; the disk has\n%s", err, c)
		}
	}
	return states, nil
}

// steps are what a sidecar does with a spool.
func steps(t *testing.T) map[string]struct {
	prepare func(s *scene)
	run     func(s *scene, t *testing.T) error
	damaged bool
} {
	t.Helper()
	type step = struct {
		prepare func(s *scene)
		run     func(s *scene, t *testing.T) error
		damaged bool
	}
	return map[string]step{
		"write": {prepare: func(*scene) {}, run: (*scene).write},
		"write over the rest of a crash": {
			prepare: func(s *scene) { s.disk.Put(spoolFile+".partial", bytes.Repeat([]byte("older and longer\n"), 200)) },
			run:     (*scene).write,
		},
		"replay": {
			prepare: func(s *scene) { s.spooled(t, func(text []byte) []byte { return text }) },
			run:     (*scene).replay,
		},
		"replay of a damaged file": {
			prepare: func(s *scene) {
				s.spooled(t, func(text []byte) []byte { return bytes.Replace(text, []byte("w-1.2"), []byte("w-1.9"), 1) })
			},
			run: (*scene).replay, damaged: true,
		},
		"replay of a file without its tail": {
			prepare: func(s *scene) {
				s.spooled(t, func(text []byte) []byte { return text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1] })
			},
			run: (*scene).replay, damaged: true,
		},
	}
}

// TestEachOperationFails makes each operation fail in each way, alone and with an operation
// behind it, and demands that no outcome is lost without a word, on the disk as it is and
// after a power failure.
func TestEachOperationFails(t *testing.T) {
	faults, states, seen := 0, 0, map[string]bool{}
	for name, step := range steps(t) {
		try := func(what string, inject func(n int, op faultfs.Op) *faultfs.Fault) *scene {
			s := newScene()
			step.prepare(s)
			s.disk.Inject = inject
			err := step.run(s, t)
			if s.disk.Injected() == 0 {
				return s
			}
			faults++
			n, broken := s.checkNow(step.damaged, seen)
			states += n
			if broken != nil {
				t.Fatalf("%s, %s: %v (the error was %v)", name, what, broken, err)
			}
			return s
		}
		var ops []faultfs.Op
		try("", func(_ int, op faultfs.Op) *faultfs.Fault { ops = append(ops, op); return nil })
		for at := range ops {
			for _, fault := range faultfs.Faults(ops[at]) {
				total := try(fmt.Sprintf("operation %d, %s, %v", at, ops[at], fault), func(n int, _ faultfs.Op) *faultfs.Fault {
					if n == at {
						return &fault
					}
					return nil
				}).disk.Count()
				if errors.Is(fault.Err, unix.EDQUOT) || errors.Is(fault.Err, unix.EROFS) || errors.Is(fault.Err, unix.EINTR) {
					continue // as ENOSPC
				}
				for second := at + 1; second < total; second++ {
					for _, other := range []faultfs.Fault{{Err: unix.EIO}, {Err: unix.EIO, Applied: true}} {
						try(fmt.Sprintf("operation %d, %s, %v; operation %d %v", at, ops[at], fault, second, other), func(n int, _ faultfs.Op) *faultfs.Fault {
							switch n {
							case at:
								return &fault
							case second:
								return &other
							}
							return nil
						})
					}
				}
			}
		}
	}
	t.Logf("%d faults and pairs of faults, %d different states of the disk after a power failure", faults, states)
}

// searchCrashes runs each step and looks at all that a power failure after each operation may
// leave. change breaks the file system.
func searchCrashes(t *testing.T, change func(s *scene)) (states int, err error) {
	t.Helper()
	for name, step := range steps(t) {
		s := newScene()
		step.prepare(s)
		change(s)
		s.disk.After = func(n int, op faultfs.Op) {
			for c := range s.disk.Crashes() {
				states++
				if broken := s.check(c, step.damaged); broken != nil && err == nil {
					err = fmt.Errorf("%s, a power failure after operation %d, %s: %w; the disk has\n%s", name, n, op, broken, c)
				}
			}
		}
		if failed := step.run(s, t); failed != nil {
			t.Errorf("%s: %v", name, failed)
		}
		s.disk.After = nil
		for c := range s.disk.Crashes() { // the step has returned, and promised more
			states++
			if broken := s.check(c, step.damaged); broken != nil && err == nil {
				err = fmt.Errorf("%s, a power failure afterwards: %w; the disk has\n%s", name, broken, c)
			}
		}
	}
	return states, err
}

// TestAPowerFailureAfterEachOperation demands that a file is there as a whole or not at all,
// and is there once Write has returned, until its outcomes are answered.
func TestAPowerFailureAfterEachOperation(t *testing.T) {
	states, err := searchCrashes(t, func(*scene) {})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d states of the disk", states)
}

// TestTheSearchFindsAMissingFsync proves that the search finds what it searches for.
func TestTheSearchFindsAMissingFsync(t *testing.T) {
	for name, change := range map[string]func(s *scene){
		"of a file":   func(s *scene) { s.disk.NoSync = true },
		"of a folder": func(s *scene) { s.disk.NoSyncDir = true },
	} {
		if _, err := searchCrashes(t, change); err == nil {
			t.Errorf("a missing fsync %s was not found", name)
		}
	}
}

// TestPrepareTellsASettingFromADisk: a disk that is full or fails is no wrong setting. A
// folder that Prepare has made outlives a power failure.
func TestPrepareTellsASettingFromADisk(t *testing.T) {
	folder := spoolDir + "/new/deep"
	prepare := func(inject func(n int, op faultfs.Op) *faultfs.Fault) (*scene, error) {
		s := newScene()
		s.Path, s.disk.Inject = folder, inject
		return s, s.Prepare()
	}
	s, err := prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	for c := range s.disk.Crashes() {
		if !c.Exists(folder) {
			t.Error("the folder is gone after a power failure")
		}
	}
	var ops []faultfs.Op
	if _, err := prepare(func(_ int, op faultfs.Op) *faultfs.Fault { ops = append(ops, op); return nil }); err != nil {
		t.Fatal(err)
	}
	for at, op := range ops {
		for _, fault := range append(faultfs.Faults(op), faultfs.Fault{Err: unix.EACCES}) {
			s, err := prepare(func(n int, _ faultfs.Op) *faultfs.Fault {
				if n == at {
					return &fault
				}
				return nil
			})
			_, isSetting := errors.AsType[*config.Error](err)
			if want := errors.Is(fault.Err, unix.EROFS) || errors.Is(fault.Err, unix.EACCES); isSetting && !want {
				t.Errorf("operation %d, %s, %v: %v", at, op, fault, err)
			}
			if err == nil && op != faultfs.SyncDir && op != faultfs.Exists {
				t.Errorf("operation %d, %s, %v: no error", at, op, fault)
			}
			s.disk.Inject = nil
			if err := s.Prepare(); err != nil {
				t.Errorf("operation %d, %s, %v: the next start fails: %v", at, op, fault, err)
			}
		}
	}
}

// TestAFileThatCannotBeLockedIsTold: only a held lock means that another sidecar has the file.
func TestAFileThatCannotBeLockedIsTold(t *testing.T) {
	s := newScene()
	s.spooled(t, func(text []byte) []byte { return text })
	s.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
		if op == faultfs.Lock {
			return &faultfs.Fault{Err: unix.ENOLCK}
		}
		return nil
	}
	if _, err := s.Open(spoolFile); !errors.Is(err, unix.ENOLCK) || errors.Is(err, spool.ErrBusy) {
		t.Errorf("opened with %v", err)
	}
}

// TestAFileThatWasCutMeanwhileIsOpenedAnew: another sidecar cuts the file between the open and
// the lock.
func TestAFileThatWasCutMeanwhileIsOpenedAnew(t *testing.T) {
	s := newScene()
	s.spooled(t, func(text []byte) []byte { return text })
	var once bool
	s.disk.After = func(_ int, op faultfs.Op) {
		if op != faultfs.Open || once {
			return
		}
		once = true
		f, err := s.Open(spoolFile)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := f.Next(1); err != nil {
			t.Error(err)
		}
		if err := f.CutTo(f.At()); err != nil {
			t.Error(err)
		}
	}
	f, err := s.Open(spoolFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := all(t, f, 1<<20); len(got) != 3 || got[0].Task.Delivery != "w-1.2" {
		t.Errorf("read %+v", got)
	}
}
