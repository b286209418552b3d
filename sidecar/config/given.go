package config

import "net/url"

// Variable is a setting that was given, by its variable or by its flag.
type Variable struct {
	Name   string // of the variable, also where a flag was used
	Value  string // empty for a secret
	Secret bool
}

// Given lists what was given to a Loader that has loaded, in the order of the
// documentation. A URL without credentials is no secret.
func (l *Loader) Given() []Variable {
	var all []Variable
	for _, v := range l.vars.all {
		if !v.given() {
			continue
		}
		given := Variable{Name: v.env, Value: v.text(), Secret: v.secret}
		if v == &l.vars.dropIn.RedisURL && harmless(given.Value) {
			given.Secret = false
		}
		if given.Secret {
			given.Value = ""
		}
		all = append(all, given)
	}
	return all
}

// harmless: nothing in the URL is for us alone.
func harmless(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.User == nil && u.RawQuery == ""
}
