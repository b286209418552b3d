// Package proc starts the programs under test, and finds the processes that they started.
package proc

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// spawner starts processes from one thread that lives as long as the tests, since
// the parent-death signal fires when the thread that started a process exits.
var spawner = sync.OnceValue(func() chan<- func() {
	spawned := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range spawned {
			start()
		}
	}()
	return spawned
})

// Start starts a command in a process group of its own. The command ends with the test
// process, even if that is killed.
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	errs := make(chan error, 1)
	spawner() <- func() { errs <- cmd.Start() }
	return <-errs
}

// Env returns the environment of the tests without the variables that configure a sidecar,
// such as REDIS_URL, and without those that the caller names.
func Env(without ...string) (env []string) {
	without = append(without, "WORKER_ID", "MAX_CONCURRENT_TASKS", "POLL_INTERVAL", "LOG_LEVEL")
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "REDIS") || strings.HasPrefix(name, "SIDECAR_") || strings.HasPrefix(name, "FAULT_") ||
			strings.HasPrefix(name, "PYTHON") || slices.Contains(without, name) {
			continue
		}
		env = append(env, kv)
	}
	// With the race detector every process would otherwise sleep for a second at its exit.
	return append(env, "PYTHONDONTWRITEBYTECODE=1", "GORACE=atexit_sleep_ms=0")
}

// Marked lists the processes that have an environment entry (NAME=value), each as its id
// and its command line. The entry is inherited, so it marks everything that a process
// ever started.
func Marked(t testing.TB, entry string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+entry+"\x00") {
			continue // the process has ended, or is not marked
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline")) // empty if the process has ended
		found = append(found, filepath.Base(filepath.Dir(file))+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return found
}

// Children returns the ids of the child processes of a process.
func Children(pid int) (pids []int) {
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		return nil
	}
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(field); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// Alive reports whether the process with this id runs. A zombie does not run.
func Alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
