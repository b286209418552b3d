package settingfile_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
)

func TestReadNeverBlocks(t *testing.T) {
	in := func(name string) string { return filepath.Join(t.TempDir(), name) }
	for _, c := range []struct {
		name string
		make func(t *testing.T) string
		want string
		err  string
	}{
		{"a file", func(t *testing.T) string {
			path := in("f")
			must(t, os.WriteFile(path, []byte("hush\n"), 0o600))
			return path
		}, "hush\n", ""},
		{"a symbolic link, as Kubernetes has them", func(t *testing.T) string {
			path := in("f")
			must(t, os.WriteFile(path, []byte("hush"), 0o600))
			must(t, os.Symlink(path, path+".link"))
			return path + ".link"
		}, "hush", ""},
		{"an empty file", func(t *testing.T) string {
			path := in("f")
			must(t, os.WriteFile(path, nil, 0o600))
			return path
		}, "", ""},
		{"no file", func(*testing.T) string { return in("f") }, "", "no such file"},
		{"a folder", func(t *testing.T) string { return t.TempDir() }, "", "is not a regular file"},
		{"a pipe without a writer", func(t *testing.T) string {
			path := in("f")
			must(t, syscall.Mkfifo(path, 0o600))
			return path
		}, "", "is a pipe that holds nothing"},
		{"a pipe whose writer never ends", func(t *testing.T) string {
			path := in("f")
			must(t, syscall.Mkfifo(path, 0o600))
			writer, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			t.Cleanup(func() { _ = writer.Close() })
			return path
		}, "", "did not end within"},
		{"a pipe with a writer", func(t *testing.T) string {
			r, w, err := os.Pipe()
			must(t, err)
			t.Cleanup(func() { _ = r.Close() })
			_, err = w.WriteString("hush")
			must(t, err)
			must(t, w.Close())
			return "/dev/fd/" + strconv.Itoa(int(r.Fd()))
		}, "hush", ""},
		{"a device without an end", func(*testing.T) string { return "/dev/zero" }, "", "is not a regular file"},
		{"a file that is far too long", func(t *testing.T) string {
			path := in("f")
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Truncate(path, 1<<40))
			return path
		}, "", "has more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := settingfile.Read(c.make(t))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %q and error %v, want one with %q", got, err, c.err)
				}
				return
			}
			if err != nil || string(got) != c.want {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestKeyPairTellsWhichFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cert")
	must(t, syscall.Mkfifo(path, 0o600))
	if _, err := settingfile.KeyPair(path, "/nowhere"); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("the error does not name %s: %v", path, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
