// Package logdocs gives each message of the log an id, and finds the section of
// docs/operations.md that explains an id. Beside that document it uses the standard
// library only.
package logdocs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// The attributes that Handler adds.
const (
	idKey      = "id"
	commandKey = "explain"
)

// Ids of errors that end a command. The sections of the document list the other
// ids: those of log messages, alerts and checks of sidecar doctor.
const (
	UsageError         = "usage-error"
	ConfigError        = "config-error"
	RedisRefused       = "redis-refused"
	RedisFormat        = "redis-format"
	RedisUnreachable   = "redis-unreachable"
	EmbeddedRedisEnded = "embedded-redis-ended"
	WorkerStartFailure = "worker-start-failure"
	CrashLoop          = "crash-loop"
	InternalError      = "internal-error"
)

// Errors are the ids of all errors that end a command.
var Errors = []string{
	UsageError, ConfigError, RedisRefused, RedisFormat, RedisUnreachable, EmbeddedRedisEnded, WorkerStartFailure, CrashLoop, InternalError,
}

// Command returns the command that prints the section of an id.
func Command(id string) string { return "sidecar explain " + id }

// ids are the ids of the log by their messages.
var ids = sync.OnceValue(func() map[string]string {
	byMessage := make(map[string]string, len(messages))
	for id, message := range messages {
		byMessage[message] = id
	}
	return byMessage
})

// ID returns the id of a log message; empty where it has none, as the lines of
// workers do.
func ID(message string) string { return ids()[message] }

// Message returns the log message of an id.
func Message(id string) (message string, known bool) {
	message, known = messages[id]
	return message, known
}

// IDs returns all ids, sorted: those of sections and those of log messages.
func IDs() []string {
	all := slices.Collect(maps.Keys(messages))
	for _, s := range Sections() {
		for _, e := range s.Entries {
			all = append(all, e.ID)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Handler adds the id of its message to each line of the log, and the command that
// explains it where the document has a section of it.
func Handler(h slog.Handler) slog.Handler { return handler{h} }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := ID(r.Message); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String(idKey, id))
		if _, explained := Find(id); explained {
			r.AddAttrs(slog.String(commandKey, Command(id)))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
