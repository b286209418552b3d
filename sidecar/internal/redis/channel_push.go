package redis

import (
	"context"
	_ "embed" // the script
	"time"
)

//go:embed channel_push.lua
var channelPushLua string
var channelPushScript = change(channelPushLua)

// Append adds a value at the end of a list and returns the length of the list. A ttl
// other than 0 applies to the whole list.
func (c *Channel) Append(ctx context.Context, t Turn, key string, value []byte, ttl time.Duration) (int64, error) {
	return c.push(ctx, t, "RPUSH", key, value, ttl)
}

// Prepend adds a value at the beginning of a list and returns the length of the list. A
// ttl other than 0 applies to the whole list.
func (c *Channel) Prepend(ctx context.Context, t Turn, key string, value []byte, ttl time.Duration) (int64, error) {
	return c.push(ctx, t, "LPUSH", key, value, ttl)
}

func (c *Channel) push(ctx context.Context, t Turn, command, key string, value []byte, ttl time.Duration) (int64, error) {
	reply, err := c.change(ctx, "channel push", channelPushScript, t, key, grows, command, value, ms(ttl))
	return number("channel push", reply, err)
}
