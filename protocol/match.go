package protocol

import "strings"

// MatchTask reports whether a task id fits a pattern: a * stands for any
// characters, none too, and everything else for itself.
func MatchTask(pattern, id string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == id
	}
	id, ok := strings.CutPrefix(id, first)
	if !ok {
		return false
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(id, part)
		}
		// The first place is as good as any later one: what follows is a *.
		_, after, found := strings.Cut(id, part)
		if !found {
			return false
		}
		id, rest = after, more
	}
}
