//go:build !linux

package rpc

// fionread asks how many bytes wait in a pipe: _IOR('f', 127, int) of
// sys/filio.h, which golang.org/x/sys does not name.
const fionread = 0x4004667f
