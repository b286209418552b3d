package host

import "golang.org/x/sys/unix"

// KeepPrivate keeps other processes of our user, the workers first of all, from
// reading our memory and the environment that we were started with, where Redis'
// password may be. (It takes core dumps with it, which would hold the same.) It is
// not inherited by what we start.
func KeepPrivate() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
