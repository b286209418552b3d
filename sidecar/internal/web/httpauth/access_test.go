package httpauth

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestLevel(t *testing.T) {
	for _, c := range []struct {
		name   string
		rules  Rules
		header []string
		want   Level
		ok     bool
	}{
		{"loopback shows all", Rules{Loopback: true}, nil, Details, true},
		{"loopback with a token shows all, and does nothing", Rules{Loopback: true, Token: "t0k"}, nil, Details, true},
		{"elsewhere counts", Rules{}, nil, Counts, true},
		{"elsewhere counts with a token, too", Rules{Token: "t0k"}, nil, Counts, true},
		{"the token", Rules{Token: "t0k"}, []string{"Bearer t0k"}, Admin, true},
		{"the token on loopback", Rules{Token: "t0k", Loopback: true}, []string{"Bearer t0k"}, Admin, true},
		{"any case of the scheme", Rules{Token: "t0k"}, []string{"bearer t0k"}, Admin, true},
		{"wrong", Rules{Token: "t0k"}, []string{"Bearer T0k"}, Counts, false},
		{"wrong on loopback, too", Rules{Token: "t0k", Loopback: true}, []string{"Bearer no"}, Counts, false},
		{"a part of it", Rules{Token: "t0k"}, []string{"Bearer t0"}, Counts, false},
		{"more than it", Rules{Token: "t0k"}, []string{"Bearer t0kk"}, Counts, false},
		{"empty", Rules{Token: "t0k"}, []string{"Bearer "}, Counts, false},
		{"no token set, an empty one given", Rules{}, []string{"Bearer "}, Counts, false},
		{"another scheme", Rules{Token: "t0k"}, []string{"Basic t0k"}, Counts, false},
		{"two of them", Rules{Token: "t0k"}, []string{"Bearer t0k", "Bearer t0k"}, Counts, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodGet, "/?token=t0k", nil)
			req.AddCookie(&http.Cookie{Name: "token", Value: "t0k"})
			req.Header["Authorization"] = c.header
			if level, ok := c.rules.Level(req); level != c.want || ok != c.ok {
				t.Errorf("%v, %v; want %v, %v", level, ok, c.want, c.ok)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	loopback, anywhere, listed := Rules{Loopback: true}, Rules{}, Rules{Hosts: []string{"Queue.example.com", "ops:8000"}}
	both := Rules{Loopback: true, Hosts: []string{"queue.example.com"}}
	for _, c := range []struct {
		rules Rules
		host  string
		want  bool
	}{
		{loopback, "localhost", true},
		{loopback, "localhost:8000", true},
		{loopback, "LOCALHOST.:8000", true},
		{loopback, "127.0.0.1:40001", true},
		{loopback, "[::1]:8000", true},
		{loopback, "[::1]", true},
		{loopback, "evil.example:8000", false},
		{loopback, "localhost.evil.example", false},
		{loopback, "127.0.0.1.evil.example:8000", false},
		{loopback, "10.0.0.1", false},
		{loopback, "", false},
		{both, "queue.example.com", true},
		{both, "other.example.com", false},
		{anywhere, "whatever.example", true},
		{anywhere, "10.1.2.3:8000", true},
		{listed, "queue.example.com:8000", true},
		{listed, "ops", true},
		{listed, "evil.example", false},
		{listed, "10.1.2.3:8000", true}, // as probes of Kubernetes ask
		{listed, "[fd00::1]:8000", true},
		{listed, "localhost", true},
		{listed, "", false},
	} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Host = c.host
		w := httptest.NewRecorder()
		c.rules.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, req)
		want := http.StatusOK
		if !c.want {
			want = http.StatusMisdirectedRequest
		}
		if w.Code != want {
			t.Errorf("%+v, Host %q: %d, want %d", c.rules, c.host, w.Code, want)
		}
	}
}
