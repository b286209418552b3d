//go:build lifecycle

package lifecycle

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// planted marks every secret of these tests.
const planted = "planted-secret"

// TestSecretsStayInside plants secrets wherever a sidecar can be given one and looks
// for them in all that it says, writes, starts and leaves.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	b, _ := ownBench(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.rdb.Do(ctx, "acl", "setuser", "w", "on", ">"+planted+"-url", "allkeys", "allchannels", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	others := []string{
		"REDISCLI_AUTH=" + planted + "-cli", "REDIS_ACCESS_TOKEN=" + planted + "-token", "LOG_LEVEL=DEBUG",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=" + planted + "-otel", "CREDENTIALS_DIRECTORY=" + b.dir,
		"SIDECAR_ADMIN_TOKEN=" + planted + "-admin",
	}
	clean := func(where, text string) {
		t.Helper()
		if at := strings.Index(text, planted); at >= 0 {
			t.Errorf("%s: …%s", where, text[max(0, at-200):min(len(text), at+60)])
		}
	}
	file := filepath.Join(b.dir, "password")
	if err := os.WriteFile(file, []byte(planted+"-url\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string][]string{
		"in a URL":    {"REDIS_URL=redis://w:" + planted + "-url@" + b.addr + "/0"},
		"a variable":  {"REDIS_URL=redis://" + b.addr + "/0", "REDIS_USERNAME=w", "REDIS_PASSWORD=" + planted + "-url"},
		"from a file": {"REDIS_URL=redis://w@" + b.addr + "/0", "REDIS_PASSWORD_FILE=" + file},
	} {
		s := b.sidecar(append(env, others...)...)
		s.ready()
		gate := b.gate(strings.ReplaceAll(name, " ", "-"))
		b.push(job{TaskID: "t", SessionID: "s", Do: "gate", Path: gate})
		b.begun(gate)
		s.signal(syscall.SIGQUIT) // the dump, in the log
		wait.Until(t, "the dump", func() bool { return s.says("goroutine ") })
		for _, entry := range proc.Marked(t, s.mark) {
			pid, cmdline, _ := strings.Cut(entry, " ")
			clean(name+": arguments of "+entry, cmdline)
			if pid == strconv.Itoa(s.cmd.Process.Pid) {
				continue // it was given them
			}
			env, err := os.ReadFile("/proc/" + pid + "/environ")
			if err == nil {
				clean(name+": environment of "+entry, string(env))
			}
		}
		url := address.FindString(s.log.String())
		for _, path := range []string{"/status", "/metrics", "/readyz", "/"} {
			clean(name+": "+path, fetch(ctx, t, url+path))
		}
		for _, args := range [][]string{{"config"}, {"config", "-o", "json"}, {"status", "-o", "json"}, {"doctor"}} {
			command := exec.CommandContext(ctx, s.cmd.Path, args...)
			command.Env = s.cmd.Env
			out, err := command.CombinedOutput() // doctor may well find something
			if len(out) == 0 {
				t.Errorf("%s: sidecar %s said nothing: %v", name, args, err)
			}
			clean(name+": sidecar "+strings.Join(args, " "), string(out))
		}
		keys, err := b.rdb.Keys(ctx, "*").Result()
		if err != nil || len(keys) == 0 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, key := range keys {
			value, _ := b.rdb.Dump(ctx, key).Result() // one that has expired is clean
			clean(name+": key "+key, key+value)
		}
		b.open(gate)
		s.terminate(10 * time.Second)
		clean(name+": log", s.log.String())
	}
	for name, env := range map[string][]string{
		"wrong password":     {"REDIS_URL=redis://w:" + planted + "-wrong@" + b.addr + "/0"},
		"no URL at all":      {"REDIS_URL=redis://w:" + planted + "-%zz@" + b.addr + "/0"},
		"another scheme":     {"REDIS_URL=http://w:" + planted + "@" + b.addr + "/0"},
		"a bad port":         {"REDIS_URL=redis://w:" + planted + "@127.0.0.1:99999/0"},
		"a bad database":     {"REDIS_URL=redis://w:" + planted + "@" + b.addr + "/nine"},
		"a bad option":       {"REDIS_URL=redis://w:" + planted + "@" + b.addr + "/0?password=" + planted},
		"password twice":     {"REDIS_URL=redis://w:" + planted + "@" + b.addr + "/0", "REDIS_PASSWORD=" + planted},
		"nowhere to connect": {"REDIS_URL=redis://w:" + planted + "@127.0.0.1:1/0", "SIDECAR_SHUTDOWN_TIMEOUT=3s"},
	} {
		s := b.sidecar(append(env, others...)...)
		wait.Until(t, "its end, or word of trouble, with "+name, func() bool { return s.over() || s.says("redis is away") || s.says("level\":\"WARN") })
		if !s.over() {
			s.signal(syscall.SIGTERM)
		}
		wait.Until(t, "its end with "+name, s.over)
		if s.log.String() == "" {
			t.Errorf("%s: it said nothing", name)
		}
		clean(name, s.log.String())
	}
}

// address is what the HTTP server says of itself in the log.
var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

func fetch(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || len(text) == 0 {
		t.Fatalf("%s: %d bytes, %v", url, len(text), err)
	}
	return string(text)
}
