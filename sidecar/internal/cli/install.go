package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

func installCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install TARGET",
		Short: "Copy this binary to a file or into a folder",
		Long: `Copies the binary itself to TARGET, or into it where it is a folder, with mode
0755. It is for an init container that puts it into a volume which the worker's
container has, too. The copy appears in one step: half of it is never visible.`,
		Example: `  sidecar install /shared/sidecar`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return &config.UsageError{Err: errors.New("sidecar install needs one target, as in: sidecar install /shared/sidecar")}
			}
			self, err := os.Executable()
			if err != nil {
				return failure{fmt.Errorf("this binary cannot be found: %w", err)}
			}
			path, err := install(self, args[0])
			if err != nil {
				return failure{err}
			}
			fmt.Printf("installed sidecar %s at %s\n", version.Number, path)
			return nil
		},
	}
}

// install copies a binary, and returns where it is now.
func install(from, to string) (string, error) {
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, "sidecar")
	}
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		return "", fmt.Errorf("%s is a folder: name the file", to)
	}
	in, err := os.Open(from)
	if err != nil {
		return "", fmt.Errorf("this binary cannot be read: %w", err)
	}
	defer in.Close()
	// Beside the target, since a rename is one step within a file system only.
	out, err := os.CreateTemp(filepath.Dir(to), ".sidecar-*")
	if err != nil {
		return "", fmt.Errorf("nothing can be written to %s: %w (is the folder there, and may user %d write to it?)", filepath.Dir(to), errors.Unwrap(err), os.Getuid())
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o755)
	}
	if err == nil {
		err = out.Sync() // a name that outlives a crash must not stand for half a file
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		_ = os.Remove(out.Name())
		return "", fmt.Errorf("%s cannot be written: %w", to, err)
	}
	return to, nil
}
