package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// The defaults and a command are enough: this runs one process of tr for each task,
// with a Redis that lives as long as the sidecar.
func ExampleStart() {
	cfg := app.DefaultConfig()
	cfg.Mode, cfg.Worker.Command = config.ModeExec, []string{"tr", "a-z", "A-Z"}
	cfg.Redis.Embedded = true
	cfg.Log = slog.New(slog.DiscardHandler)

	a, err := app.Start(context.Background(), cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	<-a.Ready()
	fmt.Println(a.Status().State)

	options, err := redis.ParseURL(a.ConnectURL())
	if err != nil {
		fmt.Println(err)
		return
	}
	client := redis.NewClient(options)
	defer client.Close()
	fmt.Println(run(client, `{"task_id":"shout","session_id":"s"}`, "graflow:channel:s:shout.__result__"))

	// What runs is finished, what was claimed and not started goes back to the queue.
	fmt.Println(a.Close(), a.Status().State)
	// Output:
	// running
	// {"TASK_ID":"SHOUT","SESSION_ID":"S"}
	// <nil> stopped
}

// run adds a record to the queue and waits for the task's result.
func run(client *redis.Client, record, result string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.RPush(ctx, "graflow:queue", record).Err(); err != nil {
		return err.Error()
	}
	for ctx.Err() == nil {
		if value, err := client.Get(ctx, result).Result(); err == nil {
			return value
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "no result"
}
