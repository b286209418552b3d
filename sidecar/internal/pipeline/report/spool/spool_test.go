package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

var header = spool.Header{Format: 1, Run: "w-1", Server: "redis://localhost:6379/0", Prefix: "p", At: time.Unix(1000, 0).UTC()}

func outcomes() []task.Outcome {
	return []task.Outcome{
		{
			Task: task.Task{
				Delivery: "w-1.1", Seq: 1, Record: []byte("{\"task_id\":\"a\"} \xff\n"), Attempt: 2,
				Info: task.Info{TaskID: "a", GroupID: "g", CreatedAt: "1.50"},
			},
			Conclusion: task.Succeeded, Value: []byte(`{"n":NaN}`), EndedAt: time.Unix(2000, 5).UTC(),
		},
		{Task: task.Task{Delivery: "w-1.2", Record: []byte("x")}, Conclusion: task.Lost, Shared: true, Message: "died"},
	}
}

func write(t *testing.T, dir string) string {
	t.Helper()
	path, err := spool.Folder{Path: dir}.Write(t.Context(), header, outcomes())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir)
	paths, err := spool.Folder{Path: dir}.List()
	if err != nil || len(paths) != 1 || paths[0] != path {
		t.Fatalf("listed %v, %v", paths, err)
	}
	f, err := spool.Folder{}.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := all(t, f, 1<<20); f.Header != header || !reflect.DeepEqual(got, outcomes()) {
		t.Errorf("read %+v\n%+v", f.Header, got)
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestAFileIsOneProcesssAtATime(t *testing.T) {
	path := write(t, t.TempDir())
	f, err := spool.Folder{}.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (spool.Folder{}).Open(path); !errors.Is(err, spool.ErrBusy) {
		t.Errorf("a second Open: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	again, err := spool.Folder{}.Open(path)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := again.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := (spool.Folder{}).Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestFilesThatAreNotCompleteAreNotTaken(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"w-2.spool.partial": "{}", "notes.txt": "", "w-3.spool": "not a header", "w-4.spool": `{"run":""}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := spool.Folder{Path: dir}.List()
	if err != nil || len(paths) != 2 {
		t.Fatalf("listed %v, %v", paths, err)
	}
	for _, path := range paths {
		if f, err := (spool.Folder{}).Open(path); err == nil {
			t.Errorf("%s was opened: %+v", path, f)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s is gone: %v", path, err)
		}
	}
}

// Files of the first versions have no format, and are read.
func TestFilesOfANewerFormatAreLeftAlone(t *testing.T) {
	for format, want := range map[string]string{"": "", `"format":1,`: "", `"format":2,`: "has format 2, and this version reads 1 to 1"} {
		path := filepath.Join(t.TempDir(), "w-1.spool")
		text := "{" + format + `"run":"w-1","server":"s","prefix":"p","at":"2026-01-02T03:04:05Z"}` + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := spool.Folder{}.Open(path)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", format, err, want)
		}
		if err == nil {
			_ = f.Close()
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%s: the file has %q, %v", format, left, err)
		}
	}
}

func TestAFileOfAnotherKindIsNotReadWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w-1.spool")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil { // all zeros, without a line end
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := spool.Folder{}.Open(path)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "is not a spool file") {
		t.Errorf("opened: %+v, %v", f, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
		t.Errorf("it took %d bytes of memory to tell that it is no spool file", took)
	}
}

func TestADirectoryThatCannotBeWrittenIsAnError(t *testing.T) {
	if _, err := (spool.Folder{Path: filepath.Join(t.TempDir(), "nowhere")}).Write(t.Context(), header, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written with %v", err)
	}
}

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, usable := range map[string]bool{
		dir: true, filepath.Join(dir, "new", "deep"): true, file: false, filepath.Join(file, "in it"): false, "/proc/1": false,
	} {
		err := (spool.Folder{Path: path}).Prepare()
		if _, isSetting := errors.AsType[*config.Error](err); isSetting == usable || (err == nil) != usable {
			t.Errorf("%s: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("something is left behind: %v, %v", entries, err)
	}
}

func TestMatches(t *testing.T) {
	other := header
	other.Run, other.At = "x", time.Time{}
	if !header.Matches(other) {
		t.Error("another run on the same Redis does not match")
	}
	other.Server = "redis://other"
	if header.Matches(other) {
		t.Error("another server matches")
	}
	other = header
	other.Prefix = "q"
	if header.Matches(other) {
		t.Error("another prefix matches")
	}
}

// all reads the rest of a file, in parts.
func all(t *testing.T, f *spool.File, most int) (list []task.Outcome) {
	t.Helper()
	for {
		some, err := f.Next(most)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return list
		}
		list = append(list, some...)
	}
}

func written(t *testing.T, dir string, sizes ...int) string {
	t.Helper()
	var outcomes []task.Outcome
	for i, n := range sizes {
		outcomes = append(outcomes, task.Outcome{Task: task.Task{Delivery: fmt.Sprint("w-1.", i+1)}, Conclusion: task.Succeeded, Value: make([]byte, n)})
	}
	path, err := spool.Folder{Path: dir}.Write(t.Context(), header, outcomes)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) *spool.File {
	t.Helper()
	f, err := spool.Folder{}.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFileIsReadInPartsAndCut(t *testing.T) {
	path := written(t, t.TempDir(), 10, 3000, 10, 10)
	f := open(t, path)
	for i, want := range []int{2, 2} {
		if i == 1 {
			if err := f.CutTo(f.At()); err != nil {
				t.Fatal(err)
			}
			f = open(t, path)
		}
		some, err := f.Next(2000)
		if err != nil || len(some) != want || some[0].Task.Delivery != fmt.Sprint("w-1.", 2*i+1) {
			t.Fatalf("part %d: %d outcomes, %v", i, len(some), err)
		}
	}
	if f.Header != header || len(all(t, f, 1)) > 0 {
		t.Errorf("header %+v, or more than there was", f.Header)
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
}

func TestALineThatIsNoOutcomeIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	path := written(t, dir, 10, 10, 10)
	text, _ := os.ReadFile(path)
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines[2] = []byte("{broken\n")
	if err := os.WriteFile(path, append(bytes.Join(lines, nil), "cut o"...), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	if got := all(t, f, 1); len(got) != 2 || !slices.Equal(f.Bad(), []int{3, 5}) {
		t.Errorf("%d outcomes, bad lines %v", len(got), f.Bad())
	}
	kept, err := f.SetAside()
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadFile(kept); err != nil || !bytes.Contains(left, []byte("{broken")) {
		t.Errorf("%s: %q, %v", kept, left, err)
	}
	if paths, err := (spool.Folder{Path: dir}).List(); len(paths) > 0 || err != nil {
		t.Errorf("listed %v, %v", paths, err)
	}
}
