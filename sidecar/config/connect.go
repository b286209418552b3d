package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Connect is what `sidecar connect` needs. Nothing in it is about Redis.
type Connect struct {
	Socket  string
	Command []string // empty with Graflow
	Graflow bool
	Python  string
	Dir     string
	Env     []string // of the workers, complete but for what the sidecar adds

	StartRetries    int
	KillGrace       time.Duration
	ShutdownTimeout time.Duration
	LogLevel        slog.Level
	LogFormat       LogFormat
}

// connectVariables are those that sidecar connect heeds. All others may be there
// for a sidecar's sake and are not looked at.
func (vs *variables) connectVariables() []*value {
	o := &vs.own
	return []*value{
		&o.Socket, &o.Graflow, &o.Python, &o.WorkerDir, &o.ChildEnv, &o.StartRetries, &o.KillGrace,
		&o.ShutdownTimeout, &o.LogFormat, &vs.dropIn.LogLevel,
	}
}

// AddConnectFlags adds the flags of sidecar connect to fs.
func (l *Loader) AddConnectFlags(fs *pflag.FlagSet) {
	l.flags = fs
	l.vars.describe()
	l.vars.own.Socket.flag = "socket"
	for _, v := range l.vars.connectVariables() {
		l.addFlag(fs, v)
	}
}

// LoadConnect is Load for sidecar connect.
func (l *Loader) LoadConnect(args []string) (Connect, error) {
	if err := l.vars.readEnvironment(); err != nil {
		return Connect{}, &Error{Err: err}
	}
	environ := os.Environ()
	in := &interpreter{}
	o := &l.vars.own
	def := Default()
	s := Settings{LogLevel: slog.LevelInfo, LogFormat: LogAuto}
	c := Connect{
		Python: "python3", StartRetries: def.Worker.StartRetries, KillGrace: def.Worker.KillGrace, ShutdownTimeout: def.ShutdownTimeout,
	}
	in.socket(&o.Socket, &c.Socket)
	in.boolean(&o.Graflow, &c.Graflow)
	in.free(&o.Python, &c.Python, "a path or a name on PATH")
	in.free(&o.WorkerDir, &c.Dir, "a folder")
	in.names(&o.ChildEnv)
	in.integer(&o.StartRetries, &c.StartRetries, 0, 1000)
	in.duration(&o.KillGrace, &c.KillGrace, 10*time.Millisecond, time.Hour)
	in.duration(&o.ShutdownTimeout, &c.ShutdownTimeout, time.Second, day)
	choice(in, &o.LogFormat, &s.LogFormat, LogAuto, LogJSON, LogText)
	in.logLevel(&l.vars.dropIn.LogLevel, &s)
	c.LogLevel, c.LogFormat = s.LogLevel, s.LogFormat

	in.env = append(in.env, unknownNames(environ, l.vars)...)
	if err := l.connectCommand(&c, args); err != nil {
		in.usage = append(in.usage, err)
	}
	if err := in.err(func(err error) error { return &Error{Err: err} }); err != nil {
		return Connect{}, err
	}
	// Where Redis is the sidecar knows: what this container was told of that, by a
	// service link say, would lead around it.
	c.Env = ChildEnv(environ, c.Graflow, splitList(o.ChildEnv.text()))
	return c, nil
}

func (l *Loader) connectCommand(c *Connect, args []string) error {
	switch {
	case c.Socket == "" && !l.vars.own.Socket.given():
		return errors.New("no socket: give the sidecar's with --socket, or SIDECAR_WORKER_SOCKET")
	case len(args) > 0 && l.flags != nil && l.flags.ArgsLenAtDash() != 0:
		return fmt.Errorf("the worker's command comes after --, as in: sidecar connect -- %s", strings.Join(args, " "))
	case len(args) > 0 && c.Graflow:
		return fmt.Errorf("%s and a worker's command exclude each other: --graflow runs the adapter that the sidecar carries", l.vars.own.Graflow.name())
	case len(args) == 0 && !c.Graflow, len(args) > 0 && args[0] == "":
		return errors.New("no worker: give its command after --, as in sidecar connect -- ./my-worker, or --graflow for Graflow's tasks")
	}
	c.Command = slices.Clone(args)
	return nil
}
