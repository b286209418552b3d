package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// soakTest sends ten million tasks through one sidecar, at full rate, and writes
// down how large it is on the way.
func (b *bench) soakTest(ctx context.Context) error {
	total, step := b.count(10_000_000), b.count(1_000_000)
	s, err := b.withGo(slots, slots)
	if err != nil {
		return err
	}
	defer s.stop()
	var text strings.Builder
	say := func(format string, args ...any) {
		fmt.Printf(format, args...)
		fmt.Fprintf(&text, format, args...)
	}
	say("# Results of `make bench ARGS=-soak`\n\nOne sidecar with a Go worker, at full rate. Written by the program in this folder.\n\n%s\n\n", describeMachine(ctx, b.server, b.options))
	say("| tasks | RSS MB | tasks/s |\n| ---: | ---: | ---: |\n")
	began := time.Now()
	for done := 0; done < total; done += step {
		group := fmt.Sprint("soak-", done)
		if err := b.refill(ctx, group, 0, step); err != nil {
			return err
		}
		if err := b.awaitCounter(ctx, s, group, step); err != nil {
			return s.explain(err)
		}
		say("| %s | %s | %s |\n", figure(float64(done+step)), figure(float64(s.own().rss)/1e6),
			figure(float64(done+step)/time.Since(began).Seconds()))
		// What a million tasks leave in Redis is Graflow's to clear.
		if err := b.server.client.Del(ctx, prefix+":completions:"+group, prefix+":barrier:"+group).Err(); err != nil {
			return err
		}
		for day := range 2 {
			at := time.Now().UnixMilli()/(24*time.Hour).Milliseconds() - int64(day)
			_ = b.server.client.Del(ctx, fmt.Sprintf("%s:sidecar:counted:%d:%s", prefix, at, group)).Err() // it is there once
		}
	}
	if b.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(b.out, "SOAK.md"), []byte(text.String()), 0o644)
}
