package serverproc

import (
	"fmt"
	"strings"
)

// directive is one line of redis.conf.
type directive struct {
	name   string
	values []string
}

// oneWord are the settings whose value may contain spaces.
var oneWord = map[string]bool{"requirepass": true, "masterauth": true}

// directives converts command-line arguments to configuration lines. A value may have
// several words ("127.0.0.1 7000"), as on redis-server's command line. --sentinel is a
// mode and not a setting.
func directives(args []string) (list []directive, sentinel bool) {
	for _, arg := range args {
		switch {
		case arg == "--sentinel":
			sentinel = true
		case strings.HasPrefix(arg, "--"):
			words := strings.Fields(strings.TrimPrefix(arg, "--"))
			if len(words) > 0 {
				list = append(list, directive{words[0], words[1:]})
			}
		case len(list) > 0:
			last := &list[len(list)-1]
			if arg == "" || oneWord[last.name] {
				last.values = append(last.values, arg)
			} else {
				last.values = append(last.values, strings.Fields(arg)...)
			}
		}
	}
	return list, sentinel
}

// configFile returns the configuration: fixed settings first, then those of the caller,
// which override them.
func configFile(port int, dir string, settings []directive, sentinel bool) []byte {
	var b strings.Builder
	base := []directive{
		{"bind", []string{Host}},
		{"port", []string{fmt.Sprint(port)}},
		{"dir", []string{dir}},
		{"daemonize", []string{"no"}},
		{"loglevel", []string{"notice"}},
	}
	if !sentinel {
		base = append(base, directive{"save", []string{""}}, directive{"appendonly", []string{"no"}})
	}
	for _, d := range append(base, settings...) {
		b.WriteString(d.name)
		for _, v := range d.values {
			b.WriteByte(' ')
			b.WriteString(quote(v))
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// quote formats a value for redis.conf: sdssplitargs reads \" \\ and \xHH within double
// quotes.
func quote(v string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(v) {
		switch c := v[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func password(settings []directive) string {
	pass := ""
	for _, d := range settings {
		if d.name == "requirepass" && len(d.values) == 1 {
			pass = d.values[0]
		}
	}
	return pass
}
