package redis

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"encoding/hex"
	"time"
)

//go:embed channel_lock.lua
var channelLockLua string
var channelLockScript = change(channelLockLua)

//go:embed channel_unlock.lua
var channelUnlockLua string
var channelUnlockScript = change(channelUnlockLua)

// lockKey returns the key at which RedisChannel.lock stores redis-py's Lock for a key.
func lockKey(key string) string { return "lock:" + key }

// NewLockToken returns a random token that identifies the owner of a lock, in redis-py's
// format: 32 hexadecimal digits.
func NewLockToken() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(random[:])
}

// TryLock acquires the lock of a key for ttl if it is free, and reports whether it did.
// It excludes Graflow's own RedisChannel.lock and is excluded by it.
func (c *Channel) TryLock(ctx context.Context, t Turn, key, token string, ttl time.Duration) (bool, error) {
	reply, err := c.change(ctx, "channel lock", channelLockScript, t, lockKey(key), grows, token, ms(ttl))
	return reply == "1", err
}

// Unlock releases the lock of a key if the token still owns it, and reports whether it
// did. It also works after the end of the delivery.
func (c *Channel) Unlock(ctx context.Context, t Turn, key, token string) (bool, error) {
	reply, err := c.s.change(ctx, "channel unlock", channelUnlockScript, t, c.run, "", c.prefix+lockKey(key), shrinks, token)
	return reply == "1", err
}
