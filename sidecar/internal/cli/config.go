package cli

import (
	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/config"
)

func configCommand() *cobra.Command {
	changed := false
	c := &cobra.Command{
		Use:   "config",
		Short: "Show every setting, its value and where that came from",
		Long: `Shows what sidecar run would use with this environment and these flags. Secrets are
masked. ignored: set in the environment, and set aside by a flag. The status is 78
where a value cannot be used (64 for a flag), with a line for each.`,
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
			if err := out.object(list, false); err != nil {
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
		return wrong
	}
	return c
}
