package config

import "testing"

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:0": "127.0.0.1:0", ":8000": ":8000", "[::1]:80": "[::1]:80", "name:1": "name:1", "off": "", "OFF": "",
		"8000": "bad", "http://x:1": "bad", "x:y": "bad", "x:-1": "bad", "a b:1": "bad",
	} {
		got := "default"
		in := interpreter{}
		in.address(&value{env: "SIDECAR_HTTP_ADDR", fromEnv: text}, &got)
		if len(in.env) > 0 {
			got = "bad"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

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
