package redis

import (
	goredis "github.com/redis/go-redis/v9"
)

// Answered reports whether err is the reply of a server that is up and has loaded its
// data. It is false for a missing reply and for one that asks to retry later.
func Answered(err error) bool {
	return isReply(err) &&
		!goredis.IsLoadingError(err) && !goredis.IsMasterDownError(err) && !goredis.IsClusterDownError(err)
}
