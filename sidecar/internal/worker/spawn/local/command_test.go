package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhyACommandCannotBeStarted: the system has the same error for the folder, the
// file and its interpreter.
func TestWhyACommandCannotBeStarted(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, command, dir string
		want               string
	}{
		{"a named pipe without a writer", pipe, "", "permission denied"},
		{"no file", dir + "/absent", "", "the file does not exist"},
		{"no interpreter", write("lost", "#! /no/such/sh -e\n"), "", `its interpreter "/no/such/sh" does not exist`},
		{"line ends of Windows", write("crlf", "#!/bin/sh\r\necho\r\n"), "", `its interpreter "/bin/sh\r" does not exist: the script has the line ends of Windows`},
		{"a byte-order mark", write("bom", "\xef\xbb\xbf#!/bin/sh\n"), "", "a byte-order mark stands before the #!"},
		{"an empty file", write("empty", ""), "", "the file is empty"},
		{"no #!", write("bare", "echo\n"), "", "a script needs a #! line"},
		{"no loader", write("elf", strings.Replace(string(self), "/lib", "/LIB", 1)), "", "its loader"},
		{"no folder", "/bin/sh", dir + "/nowhere", `the working directory "` + dir + `/nowhere" (SIDECAR_WORKER_DIR) does not exist`},
		{"a file as the folder", "/bin/sh", dir + "/bare", "is a file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spawner := NewSpawner()
			defer spawner.Stop()
			cmd := exec.Command(c.command)
			cmd.Dir = c.dir
			p, err := spawner.Start(cmd)
			if err == nil {
				discardProcess(p)
				t.Fatal("it was started")
			}
			if got := StartReason(err); !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			if _, ok := errors.AsType[syscall.Errno](err); !ok {
				t.Errorf("the system's error is lost in %v", err)
			}
		})
	}
}

func discardProcess(p Process) {
	p.Signal(syscall.SIGKILL)
	<-p.Exited()
	_, _, _ = p.Stdin().Close(), p.Stdout().Close(), p.Stderr().Close()
}

// TestWhatIsSeenOfACommandBeforeItIsStarted: the kernel starts env, and only env fails.
func TestWhatIsSeenOfACommandBeforeItIsStarted(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{"#!/bin/sh\n", ""},
		{"#!/bin/sh -e\n", ""},
		{"#!\t/bin/sh\t-e", ""},
		{"#!/bin/sh -e\r\n", ""}, // some interpreters accept it
		{"#!/bin/sh\r\n", "CRLF"},
		{"#!/usr/bin/env sh\n", ""},
		{"#!/usr/bin/env -S sh -e\n", ""},
		{"#!/usr/bin/env A=b no-such-program\n", ""},
		{"#!/usr/bin/env no-such-program\n", `its interpreter "no-such-program" was not found on PATH`},
		{"#!/usr/bin/env sh\r\n", `its interpreter "sh\r" was not found on PATH: the script has the line ends of Windows`},
		{"no script", ""},
	} {
		path := filepath.Join(t.TempDir(), "worker")
		if err := os.WriteFile(path, []byte(c.script), 0o755); err != nil {
			t.Fatal(err)
		}
		err := CheckCommand("worker", filepath.Dir(path), []string{"PATH=/nowhere", "PATH=" + os.Getenv("PATH")})
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%q: %s, want %q", c.script, got, c.want)
		}
	}
	if err := CheckCommand("/no/such/file", "", nil); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestWhenACommandIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, gone := &StartError{Err: &refusal{"busy", syscall.ETXTBSY}}, &StartError{Err: os.ErrNotExist}
		tries := Tries{Limit: 2}
		for i := range 100 {
			if tries.Failed(busy) {
				t.Fatalf("given up after %d failures that pass", i)
			}
			time.Sleep(transientFor / 101)
		}
		for i := range 3 {
			if over := tries.Failed(gone); over != (i == 2) {
				t.Errorf("given up after failure %d: %v", i+1, over)
			}
		}
		tries.Reset()
		if tries.Failed(busy) {
			t.Error("given up after one failure")
		}
		time.Sleep(transientFor)
		for i := range 3 {
			if over := tries.Failed(busy); over != (i == 2) {
				t.Errorf("given up after failure %d, where a minute does not help: %v", i+1, over)
			}
		}
	})
}

// TestACommandInOneWord: a command line in quotes is the name of no file.
func TestACommandInOneWord(t *testing.T) {
	for _, c := range []struct {
		command string
		want    bool
	}{{"cat -n", true}, {"/no/such/file -n", true}, {"no-such-command", false}, {"/no/such/file", false}} {
		_, err := exec.LookPath(c.command)
		if got := StartReason(err); strings.Contains(got, "without quotes") != c.want {
			t.Errorf("%q: %s", c.command, got)
		}
	}
}
