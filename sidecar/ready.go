package main

import (
	"encoding/json"
	"os"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/app"
)

// readiness tells whoever started the sidecar that it is ready, on a descriptor
// that they opened. (Not a file: nothing is left behind, and its end of file
// tells them that the sidecar is gone.)
//
// Its methods may be called concurrently: a reader that lets the pipe be full holds
// up send and nothing else.
type readiness struct {
	file *os.File
	once sync.Once
}

// readyReport checks the descriptor while the command line can still be blamed.
func readyReport(fd int) (*readiness, error) {
	if fd == noFD {
		return &readiness{}, nil
	}
	f, err := inherited("ready-fd", fd)
	if err != nil {
		return nil, err
	}
	return &readiness{file: f}, nil
}

// send tells it, once.
func (r *readiness) send(a *app.App) error {
	if r.file == nil {
		return nil
	}
	line, err := json.Marshal(map[string]any{"redis_url": a.ConnectURL(), "pid": os.Getpid()})
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	r.close()
	return err
}

func (r *readiness) close() {
	if r.file != nil {
		r.once.Do(func() { _ = r.file.Close() })
	}
}
