package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// value is one setting: its names, the text that was given for it, and, once
// it has been interpreted, what may be given and what its default is.
type value struct {
	env     string
	flag    string // without dashes; empty if there is none
	section string // set on the first of a section
	help    string
	secret  bool
	exact   bool // spaces around it belong to it
	list    bool // its flag may be given several times, each a line of the text

	fromEnv  string
	fromFlag string

	accepts string // "a whole number from 1 to 65535"
	example string // added to that in messages
	def     string // as a user would write it
}

// Decode takes the variable's text; envconfig calls it.
func (v *value) Decode(text string) error {
	v.fromEnv = text
	return nil
}

// text is what was given, the flag before the environment. Spaces around it
// and a text of nothing else do not count: an empty variable is an unset one.
func (v *value) text() string {
	if t := strings.TrimSpace(v.fromFlag); t != "" {
		return t
	}
	t := strings.TrimSpace(v.fromEnv)
	if v.exact && t != "" {
		return v.fromEnv
	}
	return t
}

func (v *value) given() bool { return v.text() != "" }

func (v *value) byFlag() bool { return strings.TrimSpace(v.fromFlag) != "" }

// name is where the text came from, for messages.
func (v *value) name() string {
	if v.byFlag() {
		return "--" + v.flag
	}
	return v.env
}

// drop forgets what the environment said.
func (v *value) drop() { v.fromEnv = "" }

// variables are both structs and all their fields in order.
type variables struct {
	dropIn dropIn
	own    own
	all    []*value
}

func newVariables() *variables {
	vs := &variables{}
	for _, spec := range []any{&vs.dropIn, &vs.own} {
		s := reflect.ValueOf(spec).Elem()
		for i := range s.NumField() {
			tag := s.Type().Field(i).Tag
			v := s.Field(i).Addr().Interface().(*value)
			v.env, v.flag = tag.Get("envconfig"), tag.Get("flag")
			v.section, v.help = tag.Get("section"), tag.Get("help")
			v.list = tag.Get("list") == "true"
			v.secret, v.exact, v.def = tag.Get("secret") == "true", tag.Get("exact") == "true", tag.Get("shown")
			vs.all = append(vs.all, v)
		}
	}
	return vs
}

// readEnvironment fills in what the process' environment says.
func (vs *variables) readEnvironment() error {
	for _, spec := range []any{&vs.dropIn, &vs.own} {
		if err := envconfig.Process("", spec); err != nil {
			return fmt.Errorf("read the environment: %w", err)
		}
	}
	return nil
}
