package config

import "testing"

func TestLoopback(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{"127.0.0.1:6060", true},
		{"[::1]:0", true},
		{"localhost:80", true},
		{"127.8.9.1:1", true},
		{":6060", false},
		{"0.0.0.0:6060", false},
		{"[::]:6060", false},
		{"10.0.0.1:6060", false},
		{"example.org:6060", false},
		{"127.0.0.1", false},
		{"127.0.0.1:x", false},
		{"127.0.0.1:70000", false},
	} {
		var got string
		in := interpreter{}
		in.loopback(&value{env: "SIDECAR_DEBUG_ADDR", fromEnv: c.text}, &got)
		if ok := len(in.env) == 0; ok != c.ok || ok && got != c.text {
			t.Errorf("%s: got %q, %v", c.text, got, in.env)
		}
	}
}
