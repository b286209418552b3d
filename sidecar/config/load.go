// Package config turns the environment and the command line into the
// configuration of the sidecar. It is the only package that reads the
// environment: everything else gets what it needs from here.
//
// A flag beats the environment; an empty variable counts as unset; a value
// that cannot be used is an error that names it and what is accepted. All that
// is wrong is reported at once, one line each. No message holds a secret.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/pflag"
)

// LogFormat says what the lines of the log look like.
type LogFormat string

const (
	LogAuto LogFormat = "auto" // LogText on a terminal, LogJSON elsewhere
	LogJSON LogFormat = "json" // one object a line, for machines
	LogText LogFormat = "text" // readable, with colours on a terminal
)

// LevelCritical is that of a worker's lines that are more than an error, such as
// Python's CRITICAL. A log shows it as ERROR.
const LevelCritical = slog.LevelError + 4

// Settings are what a run of the sidecar needs.
type Settings struct {
	// App is complete but for Version, Log and the command that runs the adapter:
	// see Adapter.
	App       Config
	LogLevel  slog.Level
	LogFormat LogFormat
	// Python runs the adapter, if there is one.
	Python string
	// Prefork has the adapter's processes forked from one that has imported
	// Graflow.
	Prefork bool
	// TelemetryProblems are what is wrong with the variables of OpenTelemetry.
	TelemetryProblems []TelemetryProblem
	// DebugAddr is a loopback address for profiles; empty means none.
	DebugAddr string
}

// Loader loads the settings of one run. Use it once, from one goroutine.
type Loader struct {
	vars  *variables
	flags *pflag.FlagSet
}

// NewLoader returns a Loader that knows no flags yet.
func NewLoader() *Loader { return &Loader{vars: newVariables()} }

// AddFlags adds the flags to fs: those of Graflow's worker under their own
// names, and a few of ours.
func (l *Loader) AddFlags(fs *pflag.FlagSet) {
	l.flags = fs
	l.vars.describe()
	for _, v := range l.vars.all {
		l.addFlag(fs, v)
	}
}

// AllowAbbreviations has the flags of Graflow's worker abbreviated as there: --max 4
// is --max-concurrent-tasks 4. It comes after AddFlags, for a command that has no flag
// of its own that one of these begins with.
func (l *Loader) AllowAbbreviations() { l.flags.SetNormalizeFunc(l.vars.unabbreviated) }

// graflowFlags are those of python -m graflow.worker.main.
var graflowFlags = []string{
	"help", "worker-id", "max-concurrent-tasks", "poll-interval",
	"redis-host", "redis-port", "redis-db", "redis-key-prefix", "log-level",
}

// unabbreviated is the flag of Graflow's worker that name is the beginning of, where
// it is of one only, as Python's argparse has it. The whole name of a flag is that flag.
func (vs *variables) unabbreviated(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if slices.ContainsFunc(vs.all, func(v *value) bool { return v.flag == name }) {
		return pflag.NormalizedName(name)
	}
	found := ""
	for _, flag := range graflowFlags {
		if strings.HasPrefix(flag, name) {
			if found != "" {
				return pflag.NormalizedName(name)
			}
			found = flag
		}
	}
	return pflag.NormalizedName(cmp.Or(found, name))
}

// addFlag adds the flag of a variable, if it has one.
func (l *Loader) addFlag(fs *pflag.FlagSet, v *value) {
	if v.flag == "" {
		return
	}
	f := fs.VarPF(flagValue{v}, v.flag, "", fmt.Sprintf("%s [%s]", v.help, v.env))
	f.DefValue = v.def
	if v.accepts == acceptsBool {
		f.NoOptDefVal = "true"
	}
}

// flagValue takes a flag's text; Load decides what it means.
type flagValue struct{ v *value }

func (f flagValue) String() string { return f.v.fromFlag }
func (f flagValue) Set(s string) error {
	if f.v.list && f.v.fromFlag != "" {
		s = f.v.fromFlag + "\n" + s
	}
	f.v.fromFlag = s
	return nil
}

func (f flagValue) Type() string {
	if f.v.accepts == acceptsBool {
		return "bool"
	}
	return "value"
}

// Load reads the environment and combines it with the flags, once they have
// been parsed, and with the worker's command: args is what is left of the
// command line. The error is a *UsageError for the command line and an
// *Error for the environment.
func (l *Loader) Load(args []string) (Settings, error) { return l.load(args, true) }

// LoadIdle is Load for a command that starts no worker: none has to be named.
func (l *Loader) LoadIdle(args []string) (Settings, error) { return l.load(args, len(args) > 0) }

func (l *Loader) load(args []string, worker bool) (Settings, error) {
	if err := l.vars.readEnvironment(); err != nil {
		return Settings{}, &Error{Err: err}
	}
	environ := os.Environ()
	in := &interpreter{}
	s := l.vars.settings(in)
	in.env = append(in.env, unknownNames(environ, l.vars)...)
	if !worker {
		s.App.Worker.Command = []string{"none"}
	} else if err := l.command(in, &s, args); err != nil {
		in.usage = append(in.usage, err)
	}
	if err := in.err(func(err error) error { return &Error{Err: err} }); err != nil {
		return Settings{}, err
	}
	allowed := splitList(l.vars.own.ChildEnv.text())
	s.App.Worker.Env = ChildEnv(environ, s.App.Worker.Graflow || s.App.Mode == ModeSupervise, allowed)
	s.completeKinds(environ, allowed)
	otel := telemetry{getenv: os.Getenv}
	s.App.Traces, s.App.PushMetrics = otel.traces(), otel.metrics()
	s.TelemetryProblems = otel.problems
	return s, l.backstop(s)
}

// HTTPAddr is SIDECAR_HTTP_ADDR alone, for a command that asks a sidecar: "" for none.
// The error is an *Error.
func (l *Loader) HTTPAddr() (string, error) {
	if err := l.vars.readEnvironment(); err != nil {
		return "", &Error{Err: err}
	}
	in := &interpreter{}
	addr := defaultHTTPAddr
	in.address(&l.vars.own.HTTPAddr, &addr)
	return addr, in.err(func(err error) error { return &Error{Err: err} })
}

// command takes the worker's command. It has to come after "--", or pflag
// would take the worker's own flags for ours.
func (l *Loader) command(in *interpreter, s *Settings, args []string) error {
	graflow := &l.vars.own.Graflow
	switch {
	case len(args) > 0 && l.flags != nil && l.flags.ArgsLenAtDash() != 0:
		return fmt.Errorf("the worker's command comes after --, as in: sidecar run -- %s", strings.Join(args, " "))
	case len(args) > 0 && s.App.Worker.Graflow:
		return fmt.Errorf("%s and a worker's command exclude each other: --graflow runs the adapter that the sidecar carries", graflow.name())
	case len(args) > 0 && l.vars.own.Workers.given():
		return fmt.Errorf("%s and a worker's command exclude each other: give it a pattern, as in --worker %s", l.vars.own.Workers.name(), shellquote.Join("*="+shellquote.Join(args...)))
	case len(args) > 0 && s.App.Worker.Socket.Path != "":
		return fmt.Errorf("%s and a worker's command exclude each other: it comes after sidecar connect -- in the worker's container", l.vars.own.Socket.name())
	case len(args) == 0 && !s.App.Worker.Graflow && !l.vars.own.Workers.given() && s.App.Worker.Socket.Path == "":
		return errors.New("no worker: give its command after --, as in sidecar run -- ./my-worker, or --graflow for Graflow's tasks, or --worker PATTERN=COMMAND for several kinds")
	case len(args) > 0 && args[0] == "":
		return errors.New("the worker's command after -- is empty")
	}
	s.App.Worker.Command = slices.Clone(args)
	return nil
}

// backstop has app check the result too. Whatever it finds is missing above.
func (l *Loader) backstop(s Settings) error {
	if s.App.Worker.Socket.Path == "" {
		for _, w := range s.Adapter() {
			w.Command = []string{s.Python}
		}
	}
	c := s.App
	c.Log = slog.New(slog.DiscardHandler)
	return c.Validate()
}

// defaultWorkerID is Graflow's.
func defaultWorkerID() string { return "worker_" + strconv.Itoa(os.Getpid()) }
