package serverproc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are chosen below the kernel's ephemeral range (32768 and up on Linux). A client
// that keeps dialling a closed port within that range can get the same number as its own
// source port and connect to itself; the server could then never bind the port again.
const (
	portMin = 16400
	portMax = 32600
)

// FreePort returns a loopback port that was free a moment ago.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port := portMin + rand.IntN(portMax-portMin)
		l, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d: %w", portMin, portMax, last)
}
