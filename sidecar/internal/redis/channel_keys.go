package redis

import (
	"context"
	"slices"
	"strings"
)

// scanCount is how many keys of the whole database one step of a scan looks at.
const scanCount = 1000

// glob takes the meaning from characters that have one in a pattern: a session
// that is called `*` must not be shown the keys of all others.
var glob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// Keys lists the keys that are there, those of locks too, in order of their
// names. It walks over the whole database, in small steps; a key that comes or
// goes meanwhile may be in the list or not. It fails with [ErrTooMuch] when the
// names take more than limit bytes.
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
	return slices.Compact(keys), nil // a scan may show a key twice
}
