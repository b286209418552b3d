// Package settingfile reads the files that settings name: passwords, tokens,
// certificates and keys. Reading never waits for another program and never takes more
// memory than such a file needs.
package settingfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	// maxBytes is the most that a file may hold: a bundle of all public
	// certificate authorities has 250 KB.
	maxBytes = 4 << 20
	// pipeWait is how long the writer of a pipe may take. A pipe without a writer is
	// not waited for at all.
	pipeWait = 2 * time.Second
)

// Read returns what a file holds, at most 4 MiB. A pipe can be read, such as the one of
// REDIS_PASSWORD_FILE=<(command), while it has a writer; one that holds nothing is an
// error, since what was in it has been read before. Other files that are not regular
// are refused.
//
// os.ReadFile blocks in open(2) on a pipe without a writer, where no deadline and no
// signal ends it: a start hung there without a log line, a stop ended with the
// watchdog, and /dev/zero took all memory.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	pipe := info.Mode()&fs.ModeNamedPipe != 0
	switch {
	case pipe:
		if err := f.SetReadDeadline(time.Now().Add(pipeWait)); err != nil {
			return nil, err
		}
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s is a pipe whose writer did not end within %s", path, pipeWait)
	case err != nil:
		return nil, err
	case len(text) > maxBytes:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxBytes)
	case pipe && len(text) == 0:
		return nil, fmt.Errorf("%s is a pipe that holds nothing, and a pipe can be read once only: name a regular file", path)
	}
	return text, nil
}

// KeyPair is [tls.LoadX509KeyPair] with [Read].
func KeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := Read(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := Read(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}
