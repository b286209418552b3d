package redis

import (
	goredis "github.com/redis/go-redis/v9"
)

// Answered reports whether err is the reply of a server that is up and has its
// data, as opposed to no reply at all or one that asks to come back later.
func Answered(err error) bool {
	return isReply(err) &&
		!goredis.IsLoadingError(err) && !goredis.IsMasterDownError(err) && !goredis.IsClusterDownError(err)
}
