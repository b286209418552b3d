// Package redismodel is a model of Redis in memory for tests that make millions of calls
// or that need a clock of their own: exploration, simulation and virtual time.
//
// [DB] has the commands that the sidecar's scripts, its Store and its tests use. It runs
// scripts with gopher-lua, compiles each script once, and takes its clock as a function.
// A [Snapshot] shares its values with the database until they change. [Server] puts a DB
// behind connections, with blocking commands, transactions and subscriptions.
//
// The model follows Redis 7.0. TestSameAsRedis compares each reply and the whole key space
// with a real Redis. Known differences:
//
//   - Replies without an order (HGETALL, HKEYS, HVALS, SMEMBERS, SCAN, KEYS) are sorted,
//     so that equal databases give equal replies.
//   - Keys expire at their time and not some time after it.
//   - A script converts a number that is no integer to text with the shortest digits
//     that name it, where Lua 5.1 has at most 14 digits.
//   - Memory is not measured: [DB.SetMemoryFull] says that it is full.
package redismodel
