package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
	"github.com/graflow/graflow-sidecar/sidecar/internal/spelling"
)

func explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [ID… | LINE | -]",
		Short: "Explain a log message, an error, an alert or a check of doctor",
		Long: `Prints what an id means and what to do. Each line of the log has its id in the
attribute id; an alert and a check of sidecar doctor have one as well. A whole line
of the log does in place of an id, and - reads lines from stdin. Without an argument
all ids are listed.

The command needs no Redis and no network. The status is 64 for an unknown id, with
the nearest ones, and 1 where stdin has no id.`,
		Example: `  sidecar explain redis-lost
  sidecar explain GraflowQueueStuck doctor-eviction
  kubectl logs POD | sidecar explain -`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var list []cobra.Completion
			for _, s := range logdocs.Sections() {
				for _, e := range s.Entries {
					list = append(list, cobra.CompletionWithDesc(e.ID, e.Meaning))
				}
			}
			return list, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			out, err := newPrinter(c.OutOrStdout(), asTable)
			if err != nil {
				return err
			}
			switch {
			case len(args) == 0:
				out.listIDs()
				return nil
			case len(args) == 1 && args[0] == "-":
				return out.explainInput(c.InOrStdin())
			default:
				return out.explainArguments(args)
			}
		},
	}
}

// listIDs prints the ids that have a section.
func (p *printer) listIDs() {
	var rows [][]string
	for _, s := range logdocs.Sections() {
		for _, e := range s.Entries {
			rows = append(rows, []string{e.ID, e.Meaning})
		}
	}
	p.table([]string{"ID", "MEANING"}, rows)
}

// explainArguments explains ids, or a line that a shell may have split.
func (p *printer) explainArguments(args []string) error {
	known := slices.IndexFunc(args, func(id string) bool { return !isKnown(id) })
	if known < 0 {
		p.explainIDs(args)
		return nil
	}
	if found := idsOf(strings.Join(args, " ")); len(found) > 0 {
		p.explainIDs(found)
		return nil
	}
	return unknownID(args[known])
}

// mostLine bounds a line of stdin; those of the log are far shorter.
const mostLine = 1 << 20

// explainInput explains the ids of all lines, each section once. Most lines of a log
// report normal operation: they are left out where a line with a section is there.
func (p *printer) explainInput(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, mostLine)
	var found []string
	for lines.Scan() {
		found = append(found, idsOf(lines.Text())...)
	}
	if err := lines.Err(); err != nil {
		return &StatusError{statusNo, fmt.Errorf("stdin cannot be read: %w", err)}
	}
	if len(found) == 0 {
		return no("no line of stdin has an id")
	}
	if slices.ContainsFunc(found, hasSection) {
		found = slices.DeleteFunc(found, func(id string) bool { return !hasSection(id) })
	}
	p.explainIDs(found)
	return nil
}

// idInLine is an id as a JSON or a text log has it, and as a message of a command.
var idInLine = regexp.MustCompile(`"id":"([a-z0-9-]+)"|\bid=([a-z0-9-]+)|sidecar explain ([A-Za-z0-9-]+)`)

// idsOf finds the known ids in a line; a line that is a message counts as its id.
func idsOf(line string) []string {
	if id := logdocs.ID(strings.TrimSpace(line)); id != "" {
		return []string{id}
	}
	var found []string
	for _, match := range idInLine.FindAllStringSubmatch(line, -1) {
		if id := match[1] + match[2] + match[3]; isKnown(id) {
			found = append(found, id)
		}
	}
	return found
}

func isKnown(id string) bool {
	_, message := logdocs.Message(id)
	return message || hasSection(id)
}

func hasSection(id string) bool {
	_, ok := logdocs.Find(id)
	return ok
}

// explainIDs prints the sections of known ids, each once.
func (p *printer) explainIDs(ids []string) {
	printed := map[string]bool{}
	for _, id := range ids {
		section, explained := logdocs.Find(id)
		name := section.Title
		if !explained {
			name = id
		}
		if printed[name] {
			continue
		}
		if len(printed) > 0 {
			fmt.Fprintln(p.w)
		}
		printed[name] = true
		if explained {
			p.section(section)
			continue
		}
		message, _ := logdocs.Message(id)
		fmt.Fprintf(p.w, "%s\n\n  %s\n\nThe line reports normal operation. There is nothing to do.\n", p.bold(id), message)
	}
}

// textWidth is how wide text is at most: longer lines are hard to read.
const textWidth = 80

func (p *printer) section(s logdocs.Section) {
	width := textWidth
	if p.width > 0 {
		width = min(width, p.width)
	}
	fmt.Fprintf(p.w, "%s\n\n", p.bold(s.Title))
	if s.Entries[0].ID != s.Title {
		longest := 0
		for _, e := range s.Entries {
			longest = max(longest, len(e.ID))
		}
		for _, e := range s.Entries {
			fmt.Fprintf(p.w, "  %-*s  %s\n", longest, e.ID, e.Meaning)
		}
		fmt.Fprintln(p.w)
	}
	fmt.Fprint(p.w, s.Text(width))
}

// unknownID is the error for an id that does not exist.
func unknownID(id string) error {
	nearest := strings.Join(spelling.Nearest(id, logdocs.IDs(), 3), ", ")
	return &StatusError{exitUsage, errors.New("no id " + clean(shorten(id, textWidth)) + "; the nearest are " + nearest)}
}
