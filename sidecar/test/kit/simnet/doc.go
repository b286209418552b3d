// Package simnet has a network, and pipes, in memory, whose time is that of a bubble of
// testing/synctest. A connection has a latency and a rate for each direction, deadlines,
// and a window after which writes wait.
//
// A test breaks it: [Host] cuts, holds, slows and refuses the connections of one client,
// and an [Action] breaks a single request: before it was applied, after that and before its
// reply, or so that it arrives when its sender has gone on.
package simnet
