package config_test

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// The settings of a run come from the environment and the command line; a flag
// beats a variable. What follows "--" is the worker's command.
func ExampleLoader() {
	os.Setenv("MAX_CONCURRENT_TASKS", "8")
	os.Setenv("REDIS_KEY_PREFIX", "shop")
	defer os.Unsetenv("MAX_CONCURRENT_TASKS")
	defer os.Unsetenv("REDIS_KEY_PREFIX")

	loader := config.NewLoader()
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	loader.AddFlags(flags)
	if err := flags.Parse([]string{"--redis-key-prefix", "market", "--", "python", "worker.py"}); err != nil {
		fmt.Println(err)
		return
	}
	settings, err := loader.Load(flags.Args())
	if err != nil {
		fmt.Println(err) // all that is wrong, one line each
		return
	}
	fmt.Println(settings.App.Slots, "slots,", settings.App.KeyPrefix+":queue,", settings.App.Worker.Command)
	// Output: 8 slots, market:queue, [python worker.py]
}

// An Error names every field that is wrong.
func ExampleConfig_Validate() {
	cfg := config.Default()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Slots = 0
	fmt.Println(cfg.Validate())
	// Output:
	// configuration: no worker command
	// Slots is 0, and must be 1 to 4096
}
