package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "a-token"

// fake is a Redis with one run, one dead letter, and a note of what was done.
type fake struct {
	looks, letterLooks atomic.Int64

	mu   sync.Mutex
	err  error
	done []string
	say  fleet.Requeued
	dead int64
	wait chan struct{} // looks wait for it, if set
}

const secret = "SECRET-TASK"

func (f *fake) Self() fleet.Run {
	return fleet.Run{ID: "run-1", WorkerID: "w", Seen: time.Now(), Slots: 4, Busy: 1, Children: []fleet.Child{{Tasks: []fleet.Task{{TaskID: secret}}}}}
}

func (f *fake) Overview(ctx context.Context) (fleet.Queue, error) {
	f.looks.Add(1)
	if f.wait != nil {
		select {
		case <-f.wait:
		case <-ctx.Done():
			return fleet.Queue{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return fleet.Queue{Depth: 12, Oldest: new(1500 * time.Millisecond), Dead: f.dead}, f.err
}

func (f *fake) Fleet(context.Context) ([]fleet.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []fleet.Run{{ID: "run-2", WorkerID: "a", Slots: 2, Busy: 2}, {ID: "run-1"}}, f.err
}

func (f *fake) DeadLetters(context.Context, int) ([]fleet.DeadLetter, error) {
	f.letterLooks.Add(1)
	return []fleet.DeadLetter{{ID: "run-2.7", TaskID: secret, Message: "SECRET-ERROR", Stderr: "SECRET-STDERR"}}, nil
}

func (f *fake) DeadLetter(_ context.Context, id string) (fleet.DeadLetter, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fleet.DeadLetter{ID: id, TaskID: secret, Stderr: "SECRET-STDERR", Raw: []byte("\xff{")}, id == "run-2.7", f.err
}

func (f *fake) act(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) Requeue(_ context.Context, id string, force bool) (fleet.Requeued, error) {
	return f.say, f.act("requeue %s %t", id, force)
}

func (f *fake) Drop(_ context.Context, id string) (bool, error) {
	return id == "run-2.7", f.act("drop %s", id)
}

func (f *fake) Pause(_ context.Context, run, _ string) error { return f.act("pause %s", run) }
func (f *fake) Unpause(_ context.Context, run string) error  { return f.act("unpause %s", run) }
func (f *fake) Order(_ context.Context, run string, o fleet.Command) error {
	return f.act("%s %s %d", o.Action, run, o.Slot)
}

func (f *fake) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.done)
}

func page(rules httpauth.Rules, f *fake, change ...func(*Options)) *Page {
	failures := &Failures{}
	failures.Add(Failure{TaskID: secret, Message: "SECRET-ERROR"})
	o := Options{
		Access: rules, Source: f, Actions: f, Failures: failures, Log: slog.New(slog.DiscardHandler),
		Why: func(error) string { return "connection" }, Prefix: "graflow", Version: "1",
	}
	for _, c := range change {
		c(&o)
	}
	return New(o)
}

// run keeps the page up to date until stop.
func run(t *testing.T, p *Page) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

var (
	onLoopback = httpauth.Rules{Token: token, Loopback: true}
	onNetwork  = httpauth.Rules{Token: token}
)

func TestEveryAnswerHasTheHeaders(t *testing.T) {
	h := page(onLoopback, &fake{}).Handler()
	for _, path := range []string{"/", "/page/main.js", "/page/page.css", "/page/icon.svg", "/api/dead?id=run-2.7", "/nowhere", "/api/requeue"} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Host = "localhost:1"
		h.ServeHTTP(w, req)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"X-Frame-Options": "DENY", "Content-Security-Policy": policy,
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s sets a cookie", path)
		}
	}
	for _, must := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, must) {
			t.Errorf("the policy lacks %s", must)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, "data:") {
		t.Errorf("the policy has a hole: %s", policy)
	}
}

// The page consists of what the binary carries: it names no other place, and has
// nothing inline that the policy would have to allow.
func TestThePageNamesNoOutsideResource(t *testing.T) {
	for name, f := range files() {
		if f.mime == "" {
			t.Errorf("%s has no content type", name)
		}
		text := strings.ReplaceAll(string(f.read()), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"http://", "https://", "//cdn", "@import", " style=", "onclick=", "innerHTML", "eval(", "insertAdjacentHTML", "document.write"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	f := &fake{}
	h := page(onLoopback, f).Handler()
	for _, c := range []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/", "localhost:8000", 200},
		{"HEAD", "/", "localhost:8000", 200},
		{"GET", "/page/main.js", "127.0.0.1:8000", 200},
		{"GET", "/", "evil.example", 421},
		{"GET", "/page/page.css", "evil.example", 421},
		{"GET", "/api/events", "evil.example", 421},
		{"GET", "/api/dead?id=run-2.7", "evil.example", 421},
		{"POST", "/api/requeue", "evil.example", 421},
		{"GET", "/page/", "localhost", 404},
		{"GET", "/page/../page.go", "localhost", 307},
		{"GET", "/index.html", "localhost", 404},
		{"POST", "/", "localhost", 405},
		{"GET", "/api/requeue", "localhost", 405},
		{"GET", "/api/drop?id=run-2.7", "localhost", 405},
		{"HEAD", "/api/pause", "localhost", 405},
		{"PUT", "/api/drain", "localhost", 405},
		{"OPTIONS", "/api/drain", "localhost", 405},
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(c.method, c.path, strings.NewReader(`{"id":"run-2.7","run":"run-1"}`))
		req.Host = c.host
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, req)
		if w.Code != c.want {
			t.Errorf("%s %s at %s: %d, want %d", c.method, c.path, c.host, w.Code, c.want)
		}
	}
	if did := f.did(); len(did) > 0 {
		t.Errorf("something was done: %q", did)
	}
}

func TestWhoMayDoSomething(t *testing.T) {
	for _, c := range []struct {
		name   string
		rules  httpauth.Rules
		header map[string]string
		body   string
		want   int
	}{
		{"the token", onLoopback, nil, `{"id":"run-2.7"}`, 200},
		{"the token, from the network", onNetwork, nil, `{"id":"run-2.7"}`, 200},
		{"from the page itself", onLoopback, map[string]string{"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}, `{"id":"run-2.7"}`, 200},
		{"an older browser", onLoopback, map[string]string{"Origin": "http://localhost:8000"}, `{"id":"run-2.7"}`, 200},
		{"JSON with a charset", onLoopback, map[string]string{"Content-Type": "application/json; charset=utf-8"}, `{"id":"run-2.7"}`, 200},
		{"no token", onLoopback, map[string]string{"Authorization": ""}, `{"id":"run-2.7"}`, 401},
		{"a wrong one", onLoopback, map[string]string{"Authorization": "Bearer b-token"}, `{"id":"run-2.7"}`, 401},
		{"it in a cookie", onLoopback, map[string]string{"Authorization": "", "Cookie": "token=" + token}, `{"id":"run-2.7"}`, 401},
		{"read-only", httpauth.Rules{Loopback: true}, map[string]string{"Authorization": ""}, `{"id":"run-2.7"}`, 403},
		{"read-only, with a token all the same", httpauth.Rules{Loopback: true}, nil, `{"id":"run-2.7"}`, 401},
		{"another site", onLoopback, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, `{"id":"run-2.7"}`, 403},
		{"another site, older browser", onLoopback, map[string]string{"Origin": "https://evil.example"}, `{"id":"run-2.7"}`, 403},
		{"another port", onLoopback, map[string]string{"Origin": "http://localhost:9000"}, `{"id":"run-2.7"}`, 403},
		{"a sandboxed frame", onLoopback, map[string]string{"Origin": "null"}, `{"id":"run-2.7"}`, 403},
		{"a form", onLoopback, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, `id=run-2.7`, 415},
		{"text", onLoopback, map[string]string{"Content-Type": "text/plain"}, `{"id":"run-2.7"}`, 415},
		{"no content type", onLoopback, map[string]string{"Content-Type": ""}, `{"id":"run-2.7"}`, 415},
		{"no JSON", onLoopback, nil, `id`, 400},
		{"an unknown member", onLoopback, nil, `{"id":"run-2.7","token":"x"}`, 400},
		{"two values", onLoopback, nil, `{"id":"run-2.7"}{}`, 400},
		{"too long", onLoopback, nil, `{"id":"` + strings.Repeat("x", maxBody) + `"}`, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{say: fleet.RequeueDone}
			req := httptest.NewRequest(http.MethodPost, "/api/requeue?token="+token, strings.NewReader(c.body))
			req.Host = "localhost:8000"
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/json")
			for name, value := range c.header {
				req.Header.Set(name, value)
				if value == "" {
					req.Header.Del(name)
				}
			}
			w := httptest.NewRecorder()
			page(c.rules, f).Handler().ServeHTTP(w, req)
			if w.Code != c.want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, c.want)
			}
			if did := len(f.did()) > 0; did != (c.want == 200) {
				t.Errorf("done: %q", f.did())
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Error("a 401 does not say how")
			}
			var said struct{ Error, Result string }
			if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || (said.Error == "") != (c.want == 200) {
				t.Errorf("says %q (%v)", w.Body, err)
			}
		})
	}
}

func TestActions(t *testing.T) {
	for _, c := range []struct {
		path, body string
		say        fleet.Requeued
		err        error
		want       int
		result     string
		did        string
	}{
		{"requeue", `{"id":"run-2.7"}`, fleet.RequeueDone, nil, 200, "requeued", "requeue run-2.7 false"},
		{"requeue", `{"id":"run-2.7","force":true}`, fleet.RequeueDone, nil, 200, "requeued", "requeue run-2.7 true"},
		{"requeue", `{"id":"x.1"}`, fleet.RequeueGone, nil, 404, "no-such-dead-letter", "requeue x.1 false"},
		{"requeue", `{"id":"run-2.7"}`, fleet.RequeueGroupOver, nil, 409, "group-over", "requeue run-2.7 false"},
		{"requeue", `{"id":"run-2.7"}`, fleet.RequeueCounted, nil, 409, "counted", "requeue run-2.7 false"},
		{"requeue", `{"id":"run-2.7"}`, "", errors.New("away"), 503, "", "requeue run-2.7 false"},
		{"drop", `{"id":"run-2.7"}`, "", nil, 200, "dropped", "drop run-2.7"},
		{"drop", `{"id":"x.1"}`, "", nil, 404, "no-such-dead-letter", "drop x.1"},
		{"pause", `{"run":"*"}`, "", nil, 200, "paused", "pause *"},
		{"pause", `{"run":"run-2"}`, "", nil, 200, "paused", "pause run-2"},
		{"pause", `{"run":"run-9"}`, "", nil, 404, "no-such-run", ""},
		{"pause", `{}`, "", nil, 400, "", ""},
		{"resume", `{"run":"run-9"}`, "", nil, 200, "resumed", "unpause run-9"},
		{"resume", `{}`, "", nil, 400, "", ""},
		{"drain", `{"run":"run-2"}`, "", nil, 200, "draining", "drain run-2 0"},
		{"drain", `{"run":"*"}`, "", nil, 404, "no-such-run", ""},
		{"drain", `{"run":"run-2"}`, "", errors.New("away"), 503, "", ""},
		{"restart", `{"run":"run-1","slot":3}`, "", nil, 200, "restarting", "restart-child run-1 3"},
	} {
		f := &fake{say: c.say, err: c.err}
		req := httptest.NewRequest(http.MethodPost, "/api/"+c.path, strings.NewReader(c.body))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		page(onNetwork, f).Handler().ServeHTTP(w, req)
		var said struct{ Error, Result string }
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
			t.Error(err)
		}
		if got := strings.Join(f.did(), ", "); w.Code != c.want || said.Result != c.result || got != c.did {
			t.Errorf("%s %s: %d %q, did %q; want %d %q, %q", c.path, c.body, w.Code, said.Result, got, c.want, c.result, c.did)
		}
	}
}

func TestADeadLetterInFull(t *testing.T) {
	for _, c := range []struct {
		name   string
		rules  httpauth.Rules
		header http.Header
		id     string
		err    error
		want   int
	}{
		{"loopback", onLoopback, nil, "run-2.7", nil, 200},
		{"network with the token", onNetwork, http.Header{"Authorization": {"Bearer " + token}}, "run-2.7", nil, 200},
		{"network without", onNetwork, nil, "run-2.7", nil, 401},
		{"network, read-only", httpauth.Rules{}, nil, "run-2.7", nil, 401},
		{"a wrong token", onLoopback, http.Header{"Authorization": {"Bearer no"}}, "run-2.7", nil, 401},
		{"another site's page", onLoopback, http.Header{"Sec-Fetch-Site": {"cross-site"}}, "run-2.7", nil, 403},
		{"gone", onLoopback, nil, "x.1", nil, 404},
		{"redis away", onLoopback, nil, "run-2.7", errors.New("away"), 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodGet, "/api/dead?id="+c.id+"&token="+token, nil)
			req.Host = "localhost"
			maps.Copy(req.Header, c.header)
			w := httptest.NewRecorder()
			page(c.rules, &fake{err: c.err}).Handler().ServeHTTP(w, req)
			if shown := strings.Contains(w.Body.String(), "SECRET"); w.Code != c.want || shown != (c.want == 200) {
				t.Errorf("%d %s, want %d", w.Code, w.Body, c.want)
			}
			if c.want == 200 && !strings.Contains(w.Body.String(), "not UTF-8") {
				t.Errorf("the record that is no text is shown as %s", w.Body)
			}
		})
	}
}

// pipe is a viewer: what the handler writes comes out of the reader.
type pipe struct {
	http.ResponseWriter
	io.Writer

	mu      sync.Mutex
	header  http.Header
	status  int
	refused error // of writes
	limit   time.Time
}

func (p *pipe) SetWriteDeadline(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = at
	return nil
}

func (p *pipe) Header() http.Header { return p.header }
func (p *pipe) WriteHeader(s int)   { p.status = s }
func (p *pipe) Flush()              {}
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused != nil {
		return 0, p.refused
	}
	return p.Writer.Write(b)
}

// view looks at the page and gives what comes, line by line; ended is closed when
// the handler has returned.
func view(t *testing.T, h http.Handler, header http.Header) (lines <-chan string, ended <-chan struct{}, leave func()) {
	ctx, cancel := context.WithCancel(t.Context())
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/events", nil)
	req.Host = "localhost"
	maps.Copy(req.Header, header)
	r, w := io.Pipe()
	out, end := make(chan string, 10_000), make(chan struct{})
	go func() {
		defer close(end)
		defer w.Close()
		h.ServeHTTP(&pipe{Writer: w, header: http.Header{}}, req)
	}()
	go func() {
		defer close(out)
		for scan := bufio.NewReader(r); ; {
			line, err := scan.ReadString('\n')
			if err != nil {
				return
			}
			out <- strings.TrimSuffix(line, "\n")
		}
	}()
	return out, end, cancel
}

// all are the lines so far.
func all(lines <-chan string) string {
	var b strings.Builder
	for {
		select {
		case line, open := <-lines:
			if !open {
				return b.String()
			}
			b.WriteString(line + "\n")
		default:
			return b.String()
		}
	}
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		name    string
		rules   httpauth.Rules
		header  http.Header
		want    []string
		without []string
	}{
		{
			"loopback shows all", onLoopback, nil,
			[]string{`"level":"details"`, `"depth":12`, `"oldest":1500`, "event: fleet", "event: dead", "event: failures", secret, "SECRET-ERROR", `"runs":2`},
			[]string{"SECRET-STDERR"},
		},
		{"the network is shown counts", onNetwork, nil, []string{`"level":"counts"`, `"depth":12`, `"writable":true`, `"slots":6`}, []string{"SECRET", "event: fleet", "event: dead", "event: failures", "run-2"}},
		{"the network without any token, too", httpauth.Rules{}, nil, []string{`"level":"counts"`, `"writable":false`}, []string{"SECRET", "run-2"}},
		{"with the token all", onNetwork, http.Header{"Authorization": {"Bearer " + token}}, []string{`"level":"admin"`, secret}, nil},
		{"a wrong token nothing", onNetwork, http.Header{"Authorization": {"Bearer no"}}, []string{"wrong token"}, []string{"event:", "SECRET"}},
		{"a stranger's page nothing", onLoopback, http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil, []string{"event:", "SECRET"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := page(c.rules, &fake{})
				stop := run(t, p)
				lines, ended, leave := view(t, p.Handler(), c.header)
				defer leave()
				time.Sleep(3500 * time.Millisecond)
				synctest.Wait()
				got := all(lines)
				for _, want := range c.want {
					if !strings.Contains(got, want) {
						t.Errorf("%s is missing in\n%s", want, got)
					}
				}
				if n := strings.Count(got, "event: fleet"); n > 1 {
					t.Errorf("the same fleet was sent %d times", n)
				}
				for _, bad := range c.without {
					if strings.Contains(got, bad) {
						t.Errorf("%s is in\n%s", bad, got)
					}
				}
				stop()
				<-ended
			})
		})
	}
}

// With any number of viewers, Redis is asked once a second; without one, not at all.
func TestRedisIsAskedOnceASecondForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := page(onLoopback, f)
		stop := run(t, p)
		time.Sleep(time.Minute)
		if n := f.looks.Load(); n != 0 {
			t.Errorf("asked %d times without a viewer", n)
		}
		var leaves []func()
		var ends []<-chan struct{}
		for range 10 {
			_, ended, leave := view(t, p.Handler(), nil)
			leaves, ends = append(leaves, leave), append(ends, ended)
		}
		time.Sleep(10*time.Second + 500*time.Millisecond)
		if n := f.looks.Load(); n != 11 {
			t.Errorf("asked %d times in ten seconds, want one a second", n)
		}
		if n := f.letterLooks.Load(); n != 2 {
			t.Errorf("the same dead letters were read %d times in ten seconds, want 2", n)
		}
		for i, leave := range leaves {
			leave()
			<-ends[i]
		}
		time.Sleep(2 * time.Second)
		n := f.looks.Load()
		// Viewers that come and go quickly do not make it more.
		for range 100 {
			_, ended, leave := view(t, p.Handler(), nil)
			time.Sleep(10 * time.Millisecond)
			leave()
			<-ended
		}
		time.Sleep(10 * time.Second)
		if more := f.looks.Load() - n; more < 1 || more > 3 {
			t.Errorf("asked %d times for viewers of one second", more)
		}
		stop()
	})
}

// A stop ends all streams at once, also while Redis does not answer.
func TestAStopEndsTheStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{wait: make(chan struct{})}
		p := page(onLoopback, f)
		stop := run(t, p)
		_, ended, leave := view(t, p.Handler(), nil)
		defer leave()
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		stop()
		<-ended
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/api/events", nil)
		req.Host = "localhost"
		p.Handler().ServeHTTP(w, req)
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("a viewer who comes after the stop is answered %d", w.Code)
		}
	})
}

func TestTooManyViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page(onLoopback, &fake{}, func(o *Options) { o.Viewers = 2 })
		stop := run(t, p)
		_, first, leave := view(t, p.Handler(), nil)
		_, second, _ := view(t, p.Handler(), nil)
		synctest.Wait()
		third, refused, _ := view(t, p.Handler(), nil)
		<-refused
		synctest.Wait()
		if got := all(third); !strings.Contains(got, "2 viewers") {
			t.Errorf("the third is told %q", got)
		}
		leave()
		<-first
		_, fourth, _ := view(t, p.Handler(), nil)
		synctest.Wait()
		select {
		case <-fourth:
			t.Error("no place, although one has left")
		default:
		}
		stop()
		<-second
		<-fourth
	})
}

// TestPlacesAreKeptForTheToken: viewers without it never have them all.
func TestPlacesAreKeptForTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page(onLoopback, &fake{}, func(o *Options) { o.Viewers, o.Kept = 2, 1 })
		stop := run(t, p)
		admin := http.Header{"Authorization": {"Bearer " + token}}
		var ends []<-chan struct{}
		for i, c := range []struct {
			header http.Header
			in     bool
		}{{nil, true}, {nil, true}, {nil, false}, {admin, true}, {admin, false}} {
			_, ended, _ := view(t, p.Handler(), c.header)
			synctest.Wait()
			select {
			case <-ended:
				if c.in {
					t.Errorf("viewer %d was refused", i)
				}
			default:
				if !c.in {
					t.Errorf("viewer %d got in", i)
				}
			}
			ends = append(ends, ended)
		}
		stop()
		for _, ended := range ends {
			<-ended
		}
	})
}

// While Redis is away the page says so, and since when, and goes on.
func TestRedisAwayAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := page(onLoopback, f)
		stop := run(t, p)
		lines, ended, _ := view(t, p.Handler(), nil)
		time.Sleep(2500 * time.Millisecond)
		all(lines)
		set := func(err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.err = err
		}
		since := time.Now().Add(500 * time.Millisecond).UnixMilli() // the next look
		set(errors.New("away"))
		time.Sleep(5 * time.Second)
		got := all(lines)
		if n := strings.Count(got, fmt.Sprintf(`"redis":{"up":false,"why":"connection","since":%d}`, since)); n != 5 {
			t.Errorf("%d events say since when Redis is away, want 5:\n%s", n, got)
		}
		if !strings.Contains(got, `"depth":null`) || !strings.Contains(got, `"depth":12`) {
			t.Errorf("the chart has no gap or the last known depth is gone:\n%s", got)
		}
		set(nil)
		time.Sleep(2 * time.Second)
		if got := all(lines); !strings.Contains(got, `"redis":{"up":true}`) {
			t.Errorf("Redis is back, and the page says\n%s", got)
		}
		stop()
		<-ended
	})
}

// A viewer that cannot be written to is dropped; the others see nothing of it.
func TestASlowViewerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page(onLoopback, &fake{})
		stop := run(t, p)
		req := httptest.NewRequest(http.MethodGet, "/api/events", nil)
		req.Host = "localhost"
		slow := &pipe{Writer: io.Discard, header: http.Header{}}
		dropped := make(chan struct{})
		go func() {
			defer close(dropped)
			p.Handler().ServeHTTP(slow, req)
		}()
		lines, ended, _ := view(t, p.Handler(), nil)
		time.Sleep(1500 * time.Millisecond)
		slow.mu.Lock()
		if ahead := time.Until(slow.limit); ahead <= 0 || ahead > slowness {
			t.Errorf("writes to it end %v from now", ahead)
		}
		slow.refused = errors.New("i/o timeout") // what a deadline ends a write with
		slow.mu.Unlock()
		all(lines)
		<-dropped
		time.Sleep(3 * time.Second)
		if n := strings.Count(all(lines), "event: now"); n < 3 {
			t.Errorf("%d events for the other viewer in three seconds", n)
		}
		stop()
		<-ended
	})
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page(onLoopback, &fake{}, func(o *Options) { o.Interval = time.Hour })
		stop := run(t, p)
		lines, ended, _ := view(t, p.Handler(), nil)
		time.Sleep(65 * time.Second)
		if n := strings.Count(all(lines), ": still here\n\n"); n != 6 {
			t.Errorf("%d heartbeats in 65 s, want one every 10", n)
		}
		stop()
		<-ended
	})
}

// The limits that a server has for requests do not end a stream.
func TestStreamsOnARealServer(t *testing.T) {
	p := page(onLoopback, &fake{}, func(o *Options) { o.Interval = 20 * time.Millisecond })
	stop := run(t, p)
	server := httptest.NewUnstartedServer(p.Handler())
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	server.Start()
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	began := time.Now()
	for r := bufio.NewReader(resp.Body); time.Since(began) < time.Second; {
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatalf("the stream ended after %v: %v", time.Since(began), err)
		}
	}
	stop()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream did not end well: %v", err)
	}
}
