package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

func configCommand() *cobra.Command {
	changed := false
	c := &cobra.Command{
		Use:   "config",
		Short: "Show every setting, its value and where that came from",
		Long: `Shows what sidecar run would use with this environment and these flags, and which
variables of the environment workers do not get. Secrets are masked. ignored: set in the
environment, and set aside by a flag. The status is 78 where a value cannot be used (64
for a flag), with a line for each.`,
		Example: "  sidecar config\n  sidecar config --changed --redis-host redis\n  sidecar config -o json",
		Args:    cobra.NoArgs,
	}
	loader := config.NewLoader()
	loader.AddFlags(c.Flags())
	loader.AllowAbbreviations()
	c.Flags().BoolVar(&changed, "changed", false, "only what is not at its default")
	format := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		out, err := newPrinter(c.OutOrStdout(), *format)
		if err != nil {
			return err
		}
		values, wrong := loader.Values()
		list := make([]config.Value, 0, len(values))
		for _, v := range values {
			if !changed || v.Source != config.SourceDefault {
				list = append(list, v)
			}
		}
		if out.json {
			shown := struct {
				Settings []config.Value `json:"settings"`
				Withheld []string       `json:"withheld_from_workers"`
			}{list, append([]string{}, loader.Withheld()...)} // [] and not null
			if err := out.object(shown, false); err != nil {
				return err
			}
			return wrong
		}
		rows := make([][]string, len(list))
		for i, v := range list {
			source := v.Source
			if source == config.SourceFlag {
				source = "--" + v.Flag
			}
			rows[i] = []string{v.Name, orDash(v.Value), source}
		}
		out.table([]string{"NAME", "VALUE", "FROM"}, rows)
		if names := loader.Withheld(); len(names) > 0 {
			out.say("\nworkers do not get: %s (SIDECAR_CHILD_ENV gives them some)", strings.Join(names, ", "))
		}
		return wrong
	}
	return c
}
