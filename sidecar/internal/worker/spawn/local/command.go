package local

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// refusal describes the system's refusal to start a command.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.reason }

func (r *refusal) Unwrap() error { return r.err }

// StartReason describes the system's refusal to start a command.
func StartReason(err error) string {
	if known, ok := errors.AsType[*refusal](err); ok {
		return known.reason
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "the command was not found on PATH" + quoted(err)
	case errors.Is(err, os.ErrNotExist):
		return "the file does not exist" + quoted(err)
	case errors.Is(err, os.ErrPermission):
		return "permission denied: is it executable?"
	case errors.Is(err, syscall.ENOEXEC):
		return "not an executable: a script needs a #! line"
	case errors.Is(err, syscall.ETXTBSY):
		return "the file, or its interpreter, is being written to (text file busy)"
	default:
		return err.Error()
	}
}

// quoted says of a command with spaces in it that it was most likely meant as several
// words.
func quoted(err error) string {
	name := ""
	if lookup, ok := errors.AsType[*exec.Error](err); ok {
		name = lookup.Name
	} else if opening, ok := errors.AsType[*os.PathError](err); ok {
		name = opening.Path
	}
	if !strings.ContainsAny(name, " \t") {
		return ""
	}
	return fmt.Sprintf(": %q is one word, so give the command and its arguments without quotes around them", name)
}

// explain finds out whether the system refused a command because of its folder, its
// file or the interpreter of the file, which all have the same errors.
func explain(cmd *exec.Cmd, err error) error {
	if dir := CheckDir(cmd.Dir); dir != nil {
		return &refusal{dir.Error(), err}
	}
	path := cmd.Path
	if cmd.Dir != "" && !filepath.IsAbs(path) {
		path = filepath.Join(cmd.Dir, path)
	}
	if reason := inspect(path, cmd.Environ()); reason != "" && !IsTransient(err) {
		return &refusal{reason, err}
	}
	return &refusal{StartReason(err), err}
}

// CheckDir returns an error for a working directory that workers cannot use.
func CheckDir(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("the working directory %q (SIDECAR_WORKER_DIR) does not exist", dir)
	case err != nil:
		return fmt.Errorf("the working directory %q (SIDECAR_WORKER_DIR) cannot be used: %w", dir, err)
	case !info.IsDir():
		return fmt.Errorf("the working directory %q (SIDECAR_WORKER_DIR) is a file", dir)
	case unix.Access(dir, unix.X_OK) != nil:
		return fmt.Errorf("the working directory %q (SIDECAR_WORKER_DIR) may not be entered by user %d", dir, os.Geteuid())
	}
	return nil
}

// CheckCommand reads a command's file without executing it, and returns an error for an
// interpreter that is certain to fail. env is the worker's environment. A file that
// cannot be read passes: it may still be executable.
func CheckCommand(path, dir string, env []string) error {
	if dir != "" && !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if reason := inspect(path, env); reason != "" {
		return &refusal{reason, os.ErrNotExist}
	}
	return nil
}

// longestHashBang is how much of the first line of a script the kernel reads.
const longestHashBang = 256

// inspect returns what is wrong with a file that is to be executed, or an empty string.
func inspect(path string, env []string) string {
	// Non-blocking: open(2) would never return for a named pipe without a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	head := make([]byte, longestHashBang)
	n, _ := io.ReadFull(f, head) // a short file is valid
	head = head[:n]
	switch {
	case n == 0:
		return "the file is empty"
	case bytes.HasPrefix(head, []byte("#!")):
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		return inspectScript(strings.TrimLeft(string(line), " \t"), env)
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return "a byte-order mark stands before the #! of the script: save it without one"
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return inspectELF(f)
	}
	return ""
}

// windowsLines is why the name of an interpreter ends with a carriage return.
const windowsLines = "the script has the line ends of Windows (CRLF), save it with those of Unix (LF)"

// inspectScript checks the interpreter of a script.
func inspectScript(line string, env []string) string {
	interpreter, argument, _ := strings.Cut(line, " ")
	if at := strings.IndexByte(interpreter, '\t'); at >= 0 {
		interpreter, argument = interpreter[:at], interpreter[at+1:]+" "+argument
	}
	if _, err := os.Stat(interpreter); errors.Is(err, os.ErrNotExist) {
		if strings.HasSuffix(interpreter, "\r") {
			return fmt.Sprintf("its interpreter %q does not exist: %s", interpreter, windowsLines)
		}
		return fmt.Sprintf("its interpreter %q does not exist", interpreter)
	}
	if filepath.Base(interpreter) != "env" {
		return ""
	}
	// The file exists, but env searches for another one.
	name := strings.Trim(argument, " \t")
	switch {
	case name == "" || strings.HasPrefix(name, "-") || strings.ContainsAny(name, "/= \t") || isOnPath(name, env):
		return ""
	case strings.HasSuffix(name, "\r"):
		return fmt.Sprintf("its interpreter %q was not found on PATH: %s", name, windowsLines)
	}
	return fmt.Sprintf("its interpreter %q was not found on PATH", name)
}

// isOnPath reports whether env finds a program, or whether that is unknown.
func isOnPath(name string, env []string) bool {
	for _, entry := range slices.Backward(env) {
		folders, ok := strings.CutPrefix(entry, "PATH=")
		if !ok {
			continue
		}
		for _, folder := range filepath.SplitList(folders) {
			info, err := os.Stat(filepath.Join(folder, name))
			if err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
				return true
			}
		}
		return false
	}
	return true // env then uses a path of its own
}

// machines are the processors of the systems that the sidecar is built for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// inspectELF checks the loader of a dynamically linked program, and the processor that
// it was built for.
func inspectELF(f io.ReaderAt) string {
	file, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		loader := string(bytes.TrimRight(name, "\x00"))
		if _, missing := os.Stat(loader); err == nil && errors.Is(missing, os.ErrNotExist) {
			if own := machines[runtime.GOARCH]; own != 0 && file.Machine != own {
				return fmt.Sprintf("it was built for another processor (%v)", file.Machine)
			}
			return fmt.Sprintf("its loader %q does not exist: it was built for another system (glibc or musl)", loader)
		}
	}
	return ""
}
