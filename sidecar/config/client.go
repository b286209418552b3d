package config

import (
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// clientFlags say which Redis and which prefix; a command that only looks needs
// no other.
var clientFlags = []string{"redis-url", "redis-host", "redis-port", "redis-db", "redis-key-prefix"}

// AddClientFlags adds those flags that say where Redis is.
func (l *Loader) AddClientFlags(fs *pflag.FlagSet) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	l.AddFlags(all)
	l.flags = nil
	for _, name := range clientFlags {
		fs.AddFlag(all.Lookup(name))
	}
}

// LoadClient is Load for a command that speaks to Redis and runs no worker.
func (l *Loader) LoadClient() (Config, error) {
	s, err := l.read()
	if err != nil {
		return Config{}, err
	}
	if s.App.Redis.Embedded {
		err = errors.New("REDIS_URL is embedded, and that Redis belongs to the sidecar that started it: name the URL that its log has")
		return Config{}, &Error{Err: err}
	}
	return s.App, nil
}

// read interprets the environment and the flags, without a worker's command.
func (l *Loader) read() (Settings, error) {
	if err := l.vars.readEnvironment(); err != nil {
		return Settings{}, &Error{Err: err}
	}
	in := &interpreter{}
	s := l.vars.settings(in)
	in.env = append(in.env, unknownNames(os.Environ(), l.vars)...)
	return s, in.err(func(err error) error { return &Error{Err: err} })
}

// Color reports whether a terminal is to be coloured: NO_COLOR says no, and a dumb terminal cannot.
func Color() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" }

// Value is one setting as a person may see it.
type Value struct {
	Name    string `json:"name"`
	Flag    string `json:"flag,omitempty"`
	Section string `json:"section"`
	Value   string `json:"value"` // masked where it is a secret
	Source  string `json:"source"`
	Default string `json:"default,omitempty"`
}

// Where a Value comes from.
const (
	SourceDefault     = "default"
	SourceEnvironment = "environment"
	SourceFlag        = "flag"
	SourceFile        = "file"    // REDIS_PASSWORD, from REDIS_PASSWORD_FILE
	SourceUnused      = "ignored" // set, and set aside by a flag
)

// Masked stands for a secret that is set.
const Masked = "******"

// Values lists every setting in the order of the documentation, and what is wrong
// with them as Load would say it. It reads the environment.
func (l *Loader) Values() ([]Value, error) {
	_, err := l.read()
	raw := newVariables()
	if envErr := raw.readEnvironment(); envErr != nil {
		return nil, &Error{Err: envErr}
	}
	list := make([]Value, len(l.vars.all))
	section := ""
	for i, v := range l.vars.all {
		if v.section != "" {
			section = v.section
		}
		out := Value{Name: v.env, Flag: v.flag, Section: section, Value: v.text(), Source: SourceEnvironment, Default: v.def}
		switch {
		case v.byFlag():
			out.Source = SourceFlag
		case v.given():
		case raw.all[i].given():
			out.Value, out.Source = raw.all[i].text(), SourceUnused
		case v == &l.vars.dropIn.RedisPassword && l.vars.dropIn.RedisPasswordFile.given():
			out.Value, out.Source = Masked, SourceFile
		default:
			out.Value, out.Source = v.def, SourceDefault
		}
		if v.secret && out.Source != SourceDefault {
			out.Value = mask(out.Value)
		}
		list[i] = out
	}
	return list, err
}

// mask hides a secret. Of a URL its credentials are one, and what else may be in
// its query.
func mask(text string) string {
	if strings.EqualFold(text, embedded) {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
		return Masked
	}
	u.RawQuery = ""
	if u.User != nil {
		u.User = nil
		return strings.Replace(u.String(), "://", "://"+Masked+"@", 1)
	}
	return u.String()
}
