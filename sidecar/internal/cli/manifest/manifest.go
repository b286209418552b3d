// Package manifest writes the files that run a sidecar somewhere: Kubernetes
// objects, a compose file, a systemd unit. They are templates, filled in from
// the configuration of the sidecar that prints them. No secret gets into them:
// where one is needed they name the place that it comes from.
package manifest

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed *.tmpl
var files embed.FS

// templates holds a template for each kind, and the parts that they share.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"dollars": dollars, "execWord": execWord, "join": strings.Join, "objectName": objectName,
	"quote": quote, "unit": unit, "words": words,
}).ParseFS(files, "*.tmpl"))

// Kinds are what Write can write.
var Kinds = []string{"k8s", "native-sidecar", "hpa", "keda", "compose", "systemd"}

// Variable is one of the environment that is not secret.
type Variable struct{ Name, Value string }

// Secret is a variable whose value comes from a key of a Kubernetes secret, or
// from a file of that name.
type Secret struct{ Name, Key string }

// Params are what the templates know.
type Params struct {
	Name         string // of the objects
	Image        string // of the worker, with the sidecar in it
	SidecarImage string // of the sidecar alone
	Min, Max     int    // replicas

	Command   []string // the worker's; empty with Graflow
	Graflow   bool
	Variables []Variable
	Secrets   []Secret
	// Password says that Redis wants one; it comes from a file, so that it can be
	// changed.
	Password bool
	// CA and ClientCert say that those files are given for TLS.
	CA, ClientCert bool

	Slots    int
	Shutdown time.Duration
	Port     int // of the HTTP server

	Queue         string   // key of the list
	Addrs         []string // of Redis, host:port; one but with Sentinel and Cluster
	SentinelSet   string   // name of the master; empty without Sentinel
	Cluster, TLS  bool
	DB            int
	User          string
	LocalSocket   bool // Redis is at a Unix socket
	EmbeddedRedis bool
}

// Stop is how long the process may take to stop, in seconds: its budget, the
// second after which it gives up, and some for the service manager.
func (p Params) Stop() int { return int((p.Shutdown + 5*time.Second + time.Second - 1) / time.Second) }

// StopTwice is the same for a pod whose worker is stopped before its sidecar.
func (p Params) StopTwice() int { return 2*p.Stop() - 5 }

// Memory is a limit that leaves each slot's worker some room, in MiB.
func (p Params) Memory() int { return 64 + 256*p.Slots }

// Files says whether the container gets files from secrets.
func (p Params) Files() bool { return p.Password || p.CA || p.ClientCert }

// InFlight is the number of tasks in flight at which a further replica is wanted.
func (p Params) InFlight() int { return max(1, p.Slots*4/5) }

// connects are the variables that sidecar connect heeds, in the worker's container.
var connects = []string{
	"SIDECAR_PYTHON", "SIDECAR_WORKER_DIR", "SIDECAR_CHILD_ENV", "SIDECAR_START_RETRIES", "SIDECAR_KILL_GRACE",
	"SIDECAR_SHUTDOWN_TIMEOUT", "SIDECAR_LOG_FORMAT", "LOG_LEVEL",
}

// ForWorker are those of them that are given.
func (p Params) ForWorker() []Variable {
	return slices.DeleteFunc(slices.Clone(p.Variables), func(v Variable) bool { return !slices.Contains(connects, v.Name) })
}

// Write fills in the template of that kind.
func Write(kind string, p Params) (string, error) {
	if !slices.Contains(Kinds, kind) {
		return "", fmt.Errorf("no manifest is called %q: there are %s", kind, strings.Join(Kinds, ", "))
	}
	if kind == "keda" && (p.LocalSocket || p.EmbeddedRedis) {
		return "", fmt.Errorf("KEDA has to reach Redis over the network: give its address in REDIS_URL or REDIS_HOST")
	}
	var text strings.Builder
	if err := templates.ExecuteTemplate(&text, kind+".tmpl", p); err != nil {
		return "", err
	}
	return text.String(), nil
}

// quote writes a YAML scalar: JSON's strings are YAML's. Bytes that are no text
// cannot be written.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string into memory: neither can fail
	return strings.TrimSpace(b.String())
}

// words is a command as a YAML list in one line.
func words(list []string) string {
	quoted := make([]string, 0, len(list))
	for _, w := range list {
		quoted = append(quoted, quote(w))
	}
	return strings.Join(quoted, ", ")
}

// execWord quotes one word of a command in a systemd unit, where $ means something.
func execWord(s string) string { return dollars(unit(s)) }

// unit quotes one word of a systemd unit; % means something everywhere in it.
func unit(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\n", `\n`, "\t", `\t`, "\r", `\r`)
	return `"` + r.Replace(s) + `"`
}

// dollars are doubled where a variable's value would be put in their place.
func dollars(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// objectName is a text made fit for a Kubernetes object's name.
func objectName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-")
}
