package redis

import (
	"context"
	_ "embed" // the part of scripts
	"errors"
	"fmt"
	"strconv"
	"strings"
)

//go:embed format.lua
var formatLua string

// newestFormat is the newest format of the keys P:sidecar:* that this version knows. A
// change after which an older version would misread a key raises it. It is a variable, and
// a text, because the fault suite builds a sidecar of a later format with -ldflags -X.
var newestFormat = "1"

// FormatError means that a script has refused its caller because of the format of the
// keys P:sidecar:*, and that it has changed nothing.
type FormatError struct {
	Key    string // P:sidecar:format
	Stored string // the format of the keys; "" if the key has a value that is no format
	Known  string // the newest format that this version knows
}

func (e *FormatError) Error() string {
	if e.Stored == "" {
		return fmt.Sprintf("%s holds no format: another program has changed it; a sidecar that is running repairs it within a second", e.Key)
	}
	return fmt.Sprintf("this version knows the formats 1 to %s, and %s says %s: use the newer version that wrote it", e.Known, e.Key, e.Stored)
}

// unknownFormat converts the error reply FORMAT to a *FormatError.
func (s *Store) unknownFormat(err error) error {
	stored := ""
	if words := strings.Fields(err.Error()); len(words) > 1 && words[1] != "unreadable" {
		stored = words[1]
	}
	return &FormatError{Key: s.keys.own("format"), Stored: stored, Known: s.format}
}

// Format returns the format in which the sidecars of the prefix write, and the newest one
// that this version knows. stored is 1 without a key, and 0 if the key has a value that is no
// format.
func (s *Store) Format(ctx context.Context) (stored, known int, err error) {
	known, _ = strconv.Atoi(s.format)
	text, err := s.c.Get(ctx, s.keys.own("format")).Result()
	switch {
	case isNilReply(err):
		return 1, known, nil
	case isWrongType(err):
		return 0, known, nil
	case err != nil:
		return 0, known, failure("format", err)
	}
	stored, _ = strconv.Atoi(text)
	return stored, known, nil
}

func isFormat(err error) bool {
	_, ok := errors.AsType[*FormatError](err)
	return ok
}
