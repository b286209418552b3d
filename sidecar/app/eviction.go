package app

import "context"

// checkEviction warns where the server may delete keys of ours when its memory is
// full. A server that does not say its policy, or a user that may not ask, is left
// alone: sidecar doctor has more to say.
func (a *App) checkEviction(ctx context.Context) {
	if a.redis.eviction == nil {
		return
	}
	policy, err := a.redis.eviction(ctx)
	if err != nil || policy == "" || policy == "noeviction" {
		return
	}
	a.log.Warn("redis may evict keys: set maxmemory-policy to noeviction", "policy", policy)
}
