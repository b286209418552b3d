package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/cli/manifest"
)

// printManifest is what `sidecar manifest KIND ARGS…` prints in that environment.
func printManifest(t *testing.T, kind string, environ map[string]string, args ...string) (string, error) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "REDIS") || strings.HasPrefix(name, "SIDECAR_") || name == "MAX_CONCURRENT_TASKS" || name == "LOG_LEVEL" {
			t.Setenv(name, "")
		}
	}
	for name, value := range environ {
		t.Setenv(name, value)
	}
	loader := config.NewLoader()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	loader.AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return printed(loader, kind, flags.Args(), manifest.Params{
		Name: "graflow-worker", Image: "graflow-worker:latest", SidecarImage: "graflow-sidecar:latest", Min: 2, Max: 10,
	})
}

// plain is a Graflow worker as in the README; rich has everything set that a
// manifest looks at, and things that want quoting.
var (
	plainArgs = []string{"--graflow", "--redis-host", "redis"}
	richArgs  = []string{"--max-concurrent-tasks", "8", "--shutdown-timeout", "90", "--", "/opt/w", `a "b" $HOME %i`}
	richEnv   = map[string]string{
		"REDIS_URL": "rediss://planted-user:planted-in-url@redis.example:6380/3", "REDIS_TLS_CA_FILE": "/x/ca.pem",
		"REDIS_TLS_CERT_FILE": "/x/c.pem", "REDIS_TLS_KEY_FILE": "/x/k.pem", "REDIS_KEY_PREFIX": "team-a",
		"SIDECAR_SPOOL_DIR": "/tmp/50% $spool", "SIDECAR_KILL_GRACE": "2s", "SIDECAR_HTTP_ADDR": "127.0.0.1:9000",
		"SIDECAR_ADMIN_TOKEN": "planted-token", "SIDECAR_START_TIMEOUT": "3m",
	}
	manyEnv = map[string]string{
		"REDIS_ADDRS": "s1:26379,s2:26379", "REDIS_SENTINEL_MASTER": "m", "REDIS_PASSWORD": "planted-password",
		"REDIS_SENTINEL_PASSWORD": "planted-sentinel-password", "SIDECAR_HTTP_ADDR": "0.0.0.0:9100",
	}
)

// The files in deploy/ are what the command prints, and so are those that are
// kept for the checks of scripts/manifests.
func TestManifests(t *testing.T) {
	deploy := map[string]string{
		"k8s": "kubernetes/entrypoint/deployment.yaml", "native-sidecar": "kubernetes/native-sidecar/deployment.yaml", "hpa": "kubernetes/hpa/hpa.yaml",
		"keda": "kubernetes/keda/keda.yaml", "values": "kubernetes/values.yaml", "compose": "compose.yaml", "systemd": "systemd/graflow-worker@.service",
	}
	for _, kind := range manifest.Kinds {
		extension := map[string]string{"systemd": ".service"}[kind]
		if extension == "" {
			extension = ".yaml"
		}
		for _, test := range []struct {
			path string
			env  map[string]string
			args []string
		}{
			{filepath.Join("..", "..", "..", "deploy", deploy[kind]), nil, plainArgs},
			{filepath.Join("testdata", "manifest", kind+"-rich"+extension), richEnv, richArgs},
			{filepath.Join("testdata", "manifest", kind+"-sentinel"+extension), manyEnv, []string{"--", "w"}},
		} {
			t.Run(test.path, func(t *testing.T) {
				got, err := printManifest(t, kind, test.env, test.args...)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(got, "planted") && strings.Contains(strings.ReplaceAll(got, "planted-user", ""), "planted") {
					t.Errorf("a secret is printed:\n%s", got)
				}
				if *update {
					if err := os.MkdirAll(filepath.Dir(test.path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(test.path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(test.path)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("%s is stale; run: go test ./sidecar/internal/cli -run Manifests -update", test.path)
				}
			})
		}
	}
}

// KEDA looks at the list that the sidecars take from.
func TestKEDALooksAtTheQueue(t *testing.T) {
	got, err := printManifest(t, "keda", map[string]string{"SIDECAR_QUEUE_KEY": "my jobs", "REDIS_KEY_PREFIX": "p"}, "--redis-url", "redis://redis:6379", "--", "w")
	if err != nil || !strings.Contains(got, `listName: "my jobs"`) || strings.Contains(got, "p:queue") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestWhatAManifestCannotSay(t *testing.T) {
	for _, test := range []struct {
		kind string
		args []string
		want string
	}{
		{"k8s", nil, "no worker"},
		{"native-sidecar", []string{"--mode", "exec", "--", "w"}, "does not go with native-sidecar"},
		{"keda", []string{"--redis-url", "unix:///run/redis.sock"}, "over the network"},
		{"keda", []string{"--redis-url", "embedded"}, "over the network"},
		{"k8s", []string{"--http-addr", "off", "--graflow"}, "SIDECAR_HTTP_ADDR is off"},
		{"compose", []string{"--http-addr", "off", "--graflow"}, "SIDECAR_HTTP_ADDR is off"},
		{"native-sidecar", []string{"--worker", "*=w"}, "one command"},
	} {
		_, err := printManifest(t, test.kind, nil, test.args...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %v: %v, want %q", test.kind, test.args, err, test.want)
		}
		if got := exitStatus(err); got != exitUsage {
			t.Errorf("%s %v: status %d", test.kind, test.args, got)
		}
	}
}

func TestNamesOfObjects(t *testing.T) {
	for name, good := range map[string]bool{
		"w": true, "graflow-worker-2": true, "": false, "Worker": false, "2w": false, "w-": false, "a b": false,
		strings.Repeat("w", 40): true, strings.Repeat("w", 41): false,
	} {
		_, err := manifest.Write("k8s", manifest.Params{Name: name})
		if good != (err == nil) {
			t.Errorf("--name %q: %v", name, err)
		}
	}
}

// The image that holds the binary needs no init container, wherever it has it.
func TestSidecarPath(t *testing.T) {
	for kind, want := range map[string]string{
		"k8s": `command: ["/usr/bin/sidecar"]`, "compose": `test: [CMD, "/usr/bin/sidecar", healthcheck]`, "systemd": `ExecStart="/usr/bin/sidecar" run`,
	} {
		got, err := manifest.Write(kind, manifest.Params{Name: "w", SidecarPath: "/usr/bin/sidecar"})
		if err != nil || !strings.Contains(got, want) || strings.Contains(got, "initContainers") {
			t.Errorf("%s: %v, %q is not in\n%s", kind, err, want, got)
		}
	}
	for kind, path := range map[string]string{"k8s": "sidecar", "native-sidecar": "/usr/bin/sidecar"} {
		t.Setenv("SIDECAR_GRAFLOW", "true")
		_, err := printed(config.NewLoader(), kind, nil, manifest.Params{SidecarPath: path, Name: "w", Min: 1, Max: 1})
		if err == nil || !strings.Contains(err.Error(), "--sidecar-path") || exitStatus(err) != exitUsage {
			t.Errorf("%s --sidecar-path %s: %v", kind, path, err)
		}
	}
}
