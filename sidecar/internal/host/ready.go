package host

import (
	"encoding/json"
	"os"
	"sync"
)

// ReadyFD tells the parent process that the sidecar is ready, on a descriptor that
// the parent opened. (Not a file: nothing is left behind, and its end of file tells
// the parent that the sidecar is gone.)
//
// Its methods may be called concurrently: a reader that lets the pipe be full holds
// up Send and nothing else.
type ReadyFD struct {
	file *os.File
	once sync.Once
}

// OpenReadyFD checks the descriptor while the command line can still be blamed.
func OpenReadyFD(fd int) (*ReadyFD, error) {
	if fd == NoFD {
		return &ReadyFD{}, nil
	}
	f, err := inherited("ready-fd", fd)
	if err != nil {
		return nil, err
	}
	return &ReadyFD{file: f}, nil
}

// Send tells it, once.
func (r *ReadyFD) Send(redisURL string) error {
	if r.file == nil {
		return nil
	}
	line, err := json.Marshal(map[string]any{"redis_url": redisURL, "pid": os.Getpid()})
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	r.Close()
	return err
}

// Close closes the descriptor. It may be called more than once.
func (r *ReadyFD) Close() {
	if r.file != nil {
		r.once.Do(func() { _ = r.file.Close() })
	}
}
