// Command asynq is asynq for the benchmarks: it puts tasks into its queue, or
// serves it with a handler that does nothing. It is a module of its own, so that
// nothing else of the project depends on asynq.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hibiken/asynq"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "asynq:", err)
		os.Exit(1)
	}
}

func run() error {
	where, err := asynq.ParseRedisURI(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			return err
		}
		client := asynq.NewClient(where)
		defer client.Close()
		payload := []byte(strings.Repeat("x", 300))
		for range n {
			if _, err := client.Enqueue(asynq.NewTask("nothing", payload)); err != nil {
				return err
			}
		}
		return nil
	}
	server := asynq.NewServer(where, asynq.Config{Concurrency: 10, LogLevel: asynq.WarnLevel})
	return server.Run(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil }))
}
