package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestHTTP(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		want HTTP
		bad  string // part of the message
	}{
		{"default", nil, HTTP{Addr: "127.0.0.1:0"}, ""},
		{"any address", []string{"SIDECAR_HTTP_ADDR=:8000"}, HTTP{Addr: ":8000"}, ""},
		{"off", []string{"SIDECAR_HTTP_ADDR=OFF"}, HTTP{}, ""},
		{"no port", []string{"SIDECAR_HTTP_ADDR=localhost"}, HTTP{}, "SIDECAR_HTTP_ADDR"},
		{"a port that is not a number", []string{"SIDECAR_HTTP_ADDR=:http"}, HTTP{}, "SIDECAR_HTTP_ADDR"},
		{"token and hosts", []string{"SIDECAR_ADMIN_TOKEN=t0+/=", "SIDECAR_HTTP_HOSTS=a.example, b"}, HTTP{}, "SIDECAR_HTTP_HOSTS"},
		{"hosts", []string{"SIDECAR_HTTP_HOSTS=a.example,b"}, HTTP{Addr: "127.0.0.1:0", Hosts: []string{"a.example", "b"}}, ""},
		{"token", []string{"SIDECAR_ADMIN_TOKEN=t0+/="}, HTTP{Addr: "127.0.0.1:0", AdminToken: "t0+/="}, ""},
		{"token file", []string{"SIDECAR_ADMIN_TOKEN_FILE=/run/t"}, HTTP{Addr: "127.0.0.1:0", AdminTokenFile: "/run/t"}, ""},
		{"both", []string{"SIDECAR_ADMIN_TOKEN=hush", "SIDECAR_ADMIN_TOKEN_FILE=/run/t"}, HTTP{}, "exclude each other"},
		{"a token that no header can carry", []string{"SIDECAR_ADMIN_TOKEN=hush hush"}, HTTP{}, "SIDECAR_ADMIN_TOKEN has a value that cannot be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := load(t, c.env, "--", "w")
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "hush") {
					t.Errorf("got %v, want an error about %s", err, c.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.App.HTTP, c.want) {
				t.Errorf("got %+v, want %+v", s.App.HTTP, c.want)
			}
		})
	}
}
