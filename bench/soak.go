package main

import (
	"context"
	"fmt"
	"time"
)

// soakTest sends ten million tasks through one sidecar, at full rate, and prints
// how large it is on the way.
func (b *bench) soakTest(ctx context.Context) error {
	total, step := b.count(10_000_000), b.count(1_000_000)
	s, err := b.withGo(slots, slots)
	if err != nil {
		return err
	}
	defer s.stop()
	fmt.Println("| tasks | RSS MB | tasks/s |\n| ---: | ---: | ---: |")
	began := time.Now()
	for done := 0; done < total; done += step {
		group := fmt.Sprint("soak-", done)
		if err := b.refill(ctx, group, 0, step); err != nil {
			return err
		}
		if err := b.awaitCounter(ctx, s, group, step); err != nil {
			return s.explain(err)
		}
		fmt.Printf("| %s | %s | %s |\n", figure(float64(done+step)), figure(float64(s.own().rss)/1e6),
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
	return nil
}
