package config

import (
	"net"
	"strconv"
)

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
