package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed channel_add.lua
var channelAddLua string
var channelAddScript = change(channelAddLua)

// Add adds amount, a number as JSON writes it, to the number that the key holds,
// or to 0, and returns the sum as Redis writes it: digits, with no exponent.
func (c *Channel) Add(ctx context.Context, t Turn, key, amount string) (string, error) {
	return c.change(ctx, "channel add", channelAddScript, t, key, grows, amount)
}
