package config

import (
	"strings"
)

// http interprets what is about the page.
func (vs *variables) http(in *interpreter, c *HTTP) {
	o := &vs.own
	var hosts string
	set(in, &o.HTTPHosts, &hosts, "host names, separated by commas", "", func(s string) (string, bool) {
		return s, !strings.ContainsAny(s, " /\"'\x00\r\n\t")
	})
	c.Hosts = splitList(hosts)
	set(in, &o.AdminToken, &c.AdminToken, "printable ASCII without spaces", "", func(s string) (string, bool) {
		return s, !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	})
	in.free(&o.AdminTokenFile, &c.AdminTokenFile, "the path of a file")
	if o.AdminToken.given() && o.AdminTokenFile.given() {
		in.complain(&o.AdminTokenFile, "%s and %s exclude each other", o.AdminTokenFile.name(), o.AdminToken.name())
	}
}
