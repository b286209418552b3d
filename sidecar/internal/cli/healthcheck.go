package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

func healthcheckCommand() *cobra.Command {
	var ready bool
	loader := config.NewLoader()
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the sidecar on this machine how it is, for images without a shell",
		Long: `Asks the sidecar at SIDECAR_HTTP_ADDR whether it is alive (/livez), or with
--ready whether it would run a task now (/readyz). Exit status 0 means yes, 1 no.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := loader.HTTPAddr()
			if err != nil {
				return err
			}
			return checkHealth(cmd.Context(), cmd.OutOrStdout(), addr, ready)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it would run a task now")
	return cmd
}

// errUnhealthy: the sidecar has answered, and the answer was no.
var errUnhealthy = errors.New("not healthy")

const healthPatience = 3 * time.Second

func checkHealth(ctx context.Context, out io.Writer, addr string, ready bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return &config.Error{Err: errors.New("SIDECAR_HTTP_ADDR names no fixed port: set it to one, such as :8000, for the sidecar and for its check")}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	path := "/livez"
	if ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return failure{err}
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: no answer at %s: %w", errUnhealthy, addr, err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10)) // as far as it can be read
	line := strings.TrimSpace(string(text))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errUnhealthy, line)
	}
	fmt.Fprintln(out, line)
	return nil
}
