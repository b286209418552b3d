package store

import (
	"github.com/redis/go-redis/v9"
)

// Answered reports whether err is the reply of a server that is up and has its
// data, as opposed to no reply at all or one that asks to come back later.
func Answered(err error) bool {
	return isReply(err) &&
		!redis.IsLoadingError(err) && !redis.IsMasterDownError(err) && !redis.IsClusterDownError(err)
}
