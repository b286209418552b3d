package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
)

// equivalentFile lists the mutants that no test notices, with the reason of each.
const equivalentFile = "sidecar/test/mutate/equivalent.txt"

// readEquivalents returns the keys of the list. A line that begins with # is a comment. A
// line of a key stands by itself; a reason, indented, follows one or several of them.
func readEquivalents(text string) (map[string]string, error) {
	reasons := map[string]string{}
	var open []string
	closed := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"), strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "\t"):
			if len(open) == 0 {
				return nil, fmt.Errorf("%s:%d: a reason without a mutant", equivalentFile, i+1)
			}
			for _, key := range open {
				reasons[key] = strings.TrimSpace(reasons[key] + " " + strings.TrimSpace(line))
			}
			closed = true
		default:
			if closed {
				open, closed = nil, false
			}
			if _, twice := reasons[line]; twice {
				return nil, fmt.Errorf("%s:%d: a second time", equivalentFile, i+1)
			}
			open = append(open, line)
			reasons[line] = ""
		}
	}
	for key, reason := range reasons {
		if reason == "" {
			return nil, fmt.Errorf("%s: no reason for %s", equivalentFile, key)
		}
	}
	return reasons, nil
}

func loadEquivalents() (map[string]string, error) {
	text, err := os.ReadFile(build.Root(equivalentFile))
	if err != nil {
		return nil, err
	}
	return readEquivalents(string(text))
}
