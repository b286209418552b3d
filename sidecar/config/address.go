package config

import (
	"net"
	"strconv"
	"strings"
)

// defaultHTTPAddr is on this machine alone, at a port that is free: any
// number of sidecars run beside each other.
const defaultHTTPAddr = "127.0.0.1:0"

// address takes host:port, where no host means all addresses, or off.
func (in *interpreter) address(v *value, dst *string) {
	set(in, v, dst, "host:port, :port for all addresses, or off", *dst, func(s string) (string, bool) {
		if strings.EqualFold(s, "off") {
			return "", true
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil || strings.ContainsAny(host, "/@ ") {
			return "", false
		}
		n, err := strconv.Atoi(port)
		return s, err == nil && n >= 0 && n <= 65535
	})
}

// loopback takes an address that only this machine can reach.
func (in *interpreter) loopback(v *value, dst *string) {
	set(in, v, dst, "a loopback address with a port, such as 127.0.0.1:6060", *dst, func(s string) (string, bool) {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return "", false
		}
		n, err := strconv.Atoi(port)
		ip := net.ParseIP(host)
		return s, err == nil && n >= 0 && n <= 65535 && (host == "localhost" || ip != nil && ip.IsLoopback())
	})
}
