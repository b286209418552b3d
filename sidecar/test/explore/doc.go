// Package explore searches every interleaving of a few sidecars and records over the real
// Lua scripts.
//
// A [Scope] says how many sidecars (at most two) and records there are and how often each
// fault may happen on one path. The search is breadth first over the states of a world: the
// key space of a [redismodel.DB], the clocks, what each sidecar remembers, and the calls
// that are still on the network. Each action runs one script with the arguments that a
// Store of sidecar/internal/redis sends, which a test compares. Each state is checked
// (check.go), is then brought into a canonical form (canonical.go), and is searched once.
//
// A sidecar here is what its Go side must do: it repeats a call whose reply was lost, with
// the same arguments; it starts over with a new run when a reply says that its run is gone;
// it keeps each delivery until a verdict comes back.
package explore
