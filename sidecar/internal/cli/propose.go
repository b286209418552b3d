package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/spelling"
)

// proposeCommand returns the error of a command line whose word after the command used is
// no command: with the commands that it may stand for, which are those whose last word it
// is, such as dead requeue for requeue, or else the one that is spelled most alike. Any
// other error it returns as it is.
func proposeCommand(used *cobra.Command, err error) error {
	// Cobra has no type for it. A command without others says the same of an argument.
	text, unknown := strings.CutPrefix(err.Error(), "unknown command ")
	quoted, malformed := strconv.QuotedPrefix(text)
	word, _ := strconv.Unquote(quoted)
	switch {
	case !unknown || malformed != nil:
		return err
	case !used.HasAvailableSubCommands():
		return wrongUse("%s takes no arguments, and was given %s", used.CommandPath(), clean(word))
	}
	paths := commandPaths(used)
	var meant, names []string
	for _, path := range paths {
		last := path[strings.LastIndexByte(path, ' ')+1:]
		if last == word {
			meant = append(meant, path)
		}
		names = append(names, last)
	}
	if len(meant) == 0 {
		if near, ok := spelling.Near(word, names); ok {
			meant = []string{paths[slices.Index(names, near)]}
		}
	}
	if len(meant) == 0 {
		return wrongUse("unknown command: %s", clean(word))
	}
	return wrongUse("unknown command: %s; did you mean '%s'?", clean(word), strings.Join(meant, "' or '"))
}

// commandPaths are the commands that are not hidden, as they are typed.
func commandPaths(c *cobra.Command) (paths []string) {
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			paths = append(paths, sub.CommandPath())
		}
		paths = append(paths, commandPaths(sub)...)
	}
	return paths
}

// explainFlag gives an error of the flags what the user may have meant: the flag of c that
// is spelled most alike, or the setting that other programs call so, which may have a
// variable only.
func explainFlag(c *cobra.Command, err error) error {
	text := err.Error()
	name, unknown := strings.CutPrefix(text, "unknown flag: --")
	if !unknown {
		return wrongUse("%s", clean(text))
	}
	names := config.FlagNames(c.Flags())
	if near, ok := spelling.Near(name, names); ok {
		return wrongUse("unknown flag: --%s; did you mean --%s?", clean(name), near)
	}
	if env, flag := config.Propose(name); env != "" {
		if flag != "" && slices.Contains(names, flag) {
			return wrongUse("unknown flag: --%s; did you mean --%s?", clean(name), flag)
		}
		if slices.Contains(names, "redis-url") { // of a command that reads the settings
			return wrongUse("unknown flag: --%s; the variable %s is that setting", clean(name), env)
		}
	}
	if strings.HasPrefix(c.Use, "run ") {
		return wrongUse("unknown flag: --%s (a flag of the worker's comes after --)", clean(name))
	}
	return wrongUse("unknown flag: --%s", clean(name))
}
