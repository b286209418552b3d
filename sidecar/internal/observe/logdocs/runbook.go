// Package logdocs knows which part of docs/operations.md says what a line of the
// log or an error means and what to do. Standard library only.
package logdocs

import (
	"context"
	"log/slog"
)

// page is the document that anchors are in. It is named as it lies in the
// repository: a line of a log should not be mostly URL.
const page = "docs/operations.md#"

// key is the attribute that carries the anchor.
const key = "see"

// See is where a message of the log is explained; empty for one that is not.
// Messages are constants, so that they can be looked up.
func See(message string) string {
	if anchor, ok := lines[message]; ok {
		return page + anchor
	}
	return ""
}

// Handler adds to every warning and error where it is explained.
func Handler(h slog.Handler) slog.Handler { return handler{h} }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		if see := See(r.Message); see != "" {
			r = r.Clone()
			r.AddAttrs(slog.String(key, see))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// Topic is the part of the document about an error that ends a command.
type Topic string

// What ends a command; main knows which error is of which topic.
const (
	Usage         Topic = "the-command-line-is-wrong"
	Config        Topic = "a-setting-is-wrong"
	Refused       Topic = "redis-refuses-the-sidecar"
	EmbeddedRedis Topic = "the-embedded-redis-has-ended"
	WorkerStart   Topic = "the-worker-does-not-start"
	CrashLoop     Topic = "crash-loop"
	Bug           Topic = "internal-error"
	Unreachable   Topic = "a-command-cannot-ask-redis"
)

// See is where the topic is explained.
func (t Topic) See() string {
	if t == "" {
		return ""
	}
	return page + string(t)
}

// Topics are all of them.
var Topics = []Topic{Usage, Config, Refused, EmbeddedRedis, WorkerStart, CrashLoop, Bug, Unreachable}
