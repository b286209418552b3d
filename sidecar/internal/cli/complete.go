package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// completionTimeout is how long a person at a prompt waits for Redis.
const completionTimeout = time.Second

// forCompletion opens a session for a shell that completes: the flags that stand
// on its line already say which Redis.
func forCompletion(c *cobra.Command) (*session, error) {
	loader := config.NewLoader()
	again := &cobra.Command{}
	loader.AddClientFlags(again.Flags())
	for _, name := range []string{"redis-url", "redis-host", "redis-port", "redis-db", "redis-key-prefix"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			_ = again.Flags().Set(name, f.Value.String())
		}
	}
	return open(c, loader, asTable)
}

func complete(c *cobra.Command, loader func(*cobra.Command) (*session, error), list func(context.Context, *session) ([]string, error)) ([]cobra.Completion, cobra.ShellCompDirective) {
	s, err := loader(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer func() { _ = s.st.Close() }()
	parent := c.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionTimeout)
	defer cancel()
	ids, err := list(ctx, s)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
