package redis

import (
	"context"
	"slices"
	"strings"
)

// scanCount is the number of keys of the whole database that one step of a scan examines.
const scanCount = 1000

// glob escapes the special characters of a pattern: a session named `*` must not see the
// keys of other sessions.
var glob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// Keys lists the existing keys, including those of locks, sorted by name. It scans the
// whole database in small steps; a key that is created or deleted meanwhile may be
// missing. It returns [ErrTooMuch] if the names exceed limit bytes.
func (c *Channel) Keys(ctx context.Context, limit int) ([]string, error) {
	var keys []string
	size := 0
	for cursor := uint64(0); ; {
		page, next, err := c.s.c.Scan(ctx, cursor, glob.Replace(c.prefix)+"*", scanCount).Result()
		if err != nil {
			return nil, failure("channel keys", err)
		}
		for _, key := range page {
			if name, ours := strings.CutPrefix(key, c.prefix); ours {
				keys = append(keys, name)
				size += len(name)
			}
		}
		if size > limit {
			return nil, ErrTooMuch
		}
		if next == 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, failure("channel keys", err)
		}
		cursor = next
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil // a scan may return a key twice
}
