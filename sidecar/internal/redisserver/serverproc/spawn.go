package serverproc

import (
	"os/exec"
	"runtime"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// spawner starts every child from one thread that never ends. The parent-death signal
// fires when the thread that started the child ends, not the process, and the Go runtime
// ends threads whose locked goroutine returned.
var spawner struct {
	once     sync.Once
	requests chan spawnRequest
}

type spawnRequest struct {
	cmd    *exec.Cmd
	result chan<- error
}

func spawn(cmd *exec.Cmd) error {
	spawner.once.Do(func() {
		spawner.requests = make(chan spawnRequest)
		go spawnLoop(spawner.requests)
	})
	result := make(chan error, 1)
	spawner.requests <- spawnRequest{cmd, result}
	return <-result
}

func spawnLoop(requests <-chan spawnRequest) {
	runtime.LockOSThread() // never unlocked: see spawner
	for r := range requests {
		r.result <- reaper.Start(r.cmd)
	}
}
