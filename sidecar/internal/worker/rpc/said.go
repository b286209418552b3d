package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
)

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// workerLog is a line that a worker has logged by the protocol. What it says of
// itself stands beside what the sidecar says, by its own names.
func (c *child) workerLog(params []byte) {
	var p protocol.LogParams
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber() // digit for digit
	if err := dec.Decode(&p); err != nil {
		c.print(params)
		return
	}
	level := levels[p.Level]
	if !c.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{workerlog.Key, workerlog.Text(p.Message)}
	if p.Delivery != "" {
		attrs = append(attrs, c.naming(p.Delivery)...)
	}
	c.log.Log(context.Background(), level, "worker log", workerlog.Merge(attrs, p.Fields)...)
}

// naming are the attributes that name a task which runs here.
func (c *child) naming(delivery string) []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.task.Delivery == delivery {
			return r.task.LogAttrs()
		}
	}
	return []any{"delivery", delivery}
}
