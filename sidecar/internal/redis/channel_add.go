package redis

import (
	"context"
	_ "embed" // the script
)

//go:embed channel_add.lua
var channelAddLua string
var channelAddScript = change(channelAddLua)

// Add adds amount, a JSON number, to the number at the key, or to 0, and returns the sum
// as Redis formats it: digits without an exponent.
func (c *Channel) Add(ctx context.Context, t Turn, key, amount string) (string, error) {
	return c.change(ctx, "channel add", channelAddScript, t, key, grows, amount)
}
