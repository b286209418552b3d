// Package manifest writes the files that run a sidecar somewhere: Kubernetes
// objects, a compose file, a systemd unit. They are templates, filled in from
// the configuration of the sidecar that prints them. No secret gets into them:
// where one is needed they name the place that it comes from.
package manifest

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed *.tmpl
var files embed.FS

// templates holds a template for each kind, and the parts that they share.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"dollars": dollars, "execWord": execWord, "image": splitImage, "join": strings.Join, "objectName": objectName,
	"quote": quote, "unit": unit, "words": words,
}).ParseFS(files, "*.tmpl"))

// Kinds are what Write can write.
var Kinds = []string{"k8s", "native-sidecar", "hpa", "keda", "values", "compose", "systemd"}

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
	// AdminToken says that the actions of the page want one; it comes from a file, too.
	AdminToken bool
	// CA and ClientCert say that those files are given for TLS.
	CA, ClientCert bool

	Slots    int
	Shutdown time.Duration
	// HTTPAddr is what the sidecar listens on in a container, and Port its port: what
	// every probe, health check and scrape asks.
	HTTPAddr string
	Port     int
	// FixedPort says that the address was given: two on one machine cannot share it.
	FixedPort bool
	// SidecarPath is where the worker's image has the binary; empty if an init container
	// brings it.
	SidecarPath  string
	StartTimeout time.Duration
	StartRetries int

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
func (p Params) Stop() int { return seconds(p.Shutdown + 5*time.Second) }

// StopTwice is the same for a pod whose worker is stopped before its sidecar.
func (p Params) StopTwice() int { return 2*p.Stop() - 5 }

// Memory is a limit that leaves each slot's worker some room, in MiB.
func (p Params) Memory() int { return 64 + 256*p.Slots }

// Files says whether the container gets files from secrets.
func (p Params) Files() bool { return p.Password || p.AdminToken || p.CA || p.ClientCert }

// installed is where the init container puts the binary: in a volume, which is on no PATH.
const installed = "/opt/sidecar/sidecar"

// Program is how the worker's container starts the sidecar.
func (p Params) Program() string { return cmp.Or(p.SidecarPath, installed) }

// startupPeriod is how often the startup probe asks, in seconds.
const startupPeriod = 2

// StartupPeriod is how often the startup probe asks, in seconds.
func (p Params) StartupPeriod() int { return startupPeriod }

// StartupFailures is how often the startup probe may fail. The sidecar ends by itself
// when a worker has not come up in SIDECAR_START_TIMEOUT, as often as it tries; the probe
// must not end it before that. Beyond four tries there is no end to wait for.
func (p Params) StartupFailures() int {
	tries := min(p.StartRetries, 3) + 1
	return max(300, tries*seconds(p.StartTimeout)+60) / startupPeriod
}

// Computed are the variables that numbers of a pod depend on. They are written down even
// where they have their defaults, which a later version may change.
func (p Params) Computed() []Variable {
	return []Variable{
		{"SIDECAR_HTTP_ADDR", p.HTTPAddr},
		{"MAX_CONCURRENT_TASKS", strconv.Itoa(p.Slots)},
		{"SIDECAR_SHUTDOWN_TIMEOUT", text(p.Shutdown)},
		{"SIDECAR_START_TIMEOUT", text(p.StartTimeout)},
	}
}

// Others are the variables that are given beside those of Computed.
func (p Params) Others() []Variable {
	return slices.DeleteFunc(slices.Clone(p.Variables), func(v Variable) bool {
		return slices.ContainsFunc(p.Computed(), func(c Variable) bool { return c.Name == v.Name })
	})
}

// text writes a time in seconds, as the sidecar reads it.
func text(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" }

// seconds rounds up to whole seconds.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// InFlight is the number of tasks in flight at which a further replica is wanted.
func (p Params) InFlight() int { return max(1, p.Slots*4/5) }

// connects are the variables that sidecar connect heeds, in the worker's container.
var connects = []string{
	"SIDECAR_PYTHON", "SIDECAR_WORKER_DIR", "SIDECAR_CHILD_ENV", "SIDECAR_START_RETRIES", "SIDECAR_KILL_GRACE",
	"SIDECAR_SHUTDOWN_TIMEOUT", "SIDECAR_LOG_FORMAT", "LOG_LEVEL",
}

// ForWorker are those of them that are given, and the budget of a stop.
func (p Params) ForWorker() []Variable {
	return slices.DeleteFunc(append(p.Computed(), p.Others()...), func(v Variable) bool { return !slices.Contains(connects, v.Name) })
}

// Write fills in the template of that kind.
func Write(kind string, p Params) (string, error) {
	if !slices.Contains(Kinds, kind) {
		return "", fmt.Errorf("no manifest is called %q: there are %s", kind, strings.Join(Kinds, ", "))
	}
	if err := validName(p.Name); err != nil {
		return "", err
	}
	if kind == "keda" && (p.LocalSocket || p.EmbeddedRedis) {
		return "", fmt.Errorf("KEDA has to reach Redis over the network: give its address in REDIS_URL or REDIS_HOST")
	}
	if kind == "values" && p.EmbeddedRedis {
		return "", fmt.Errorf("the chart's pods share one Redis: give its address in REDIS_URL or REDIS_HOST")
	}
	var text strings.Builder
	if err := templates.ExecuteTemplate(&text, kind+".tmpl", p); err != nil {
		return "", err
	}
	return text.String(), nil
}

// validName refuses a name that the objects cannot have: that of a label with room for
// what is added to it.
func validName(name string) error {
	if len(name) > 40 || name == "" || objectName(name) != name || name[0] >= '0' && name[0] <= '9' {
		return fmt.Errorf("--name is %q: it takes at most 40 lower-case letters, digits and hyphens, with a letter first and no hyphen last", name)
	}
	return nil
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
