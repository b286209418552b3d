package redis

import (
	"context"
	_ "embed" // the scripts
	"time"
)

//go:embed channel_set.lua
var channelSetLua string
var channelSetScript = change(channelSetLua)

// Set writes a value and replaces a value of any type. A ttl of 0 means no expiry.
func (c *Channel) Set(ctx context.Context, t Turn, key string, value []byte, ttl time.Duration) error {
	_, err := c.change(ctx, "channel set", channelSetScript, t, key, grows, value, ms(ttl))
	return err
}

//go:embed channel_delete.lua
var channelDeleteLua string
var channelDeleteScript = change(channelDeleteLua)

// Delete removes a key and reports whether it existed.
func (c *Channel) Delete(ctx context.Context, t Turn, key string) (bool, error) {
	reply, err := c.change(ctx, "channel delete", channelDeleteScript, t, key, shrinks)
	n, err := number("channel delete", reply, err)
	return n > 0, err
}
