// Package simulation runs whole sidecars in virtual time. Each seed is a fleet of real
// sidecars (package app, with the real client of Redis) in one process and one bubble of
// testing/synctest. Redis is a model in memory, the network is in memory, and worker
// processes are goroutines behind pipes. A driver with the seed's random numbers pushes
// records of many shapes and causes faults. The checker of the fault suite judges what
// happened (sidecar/test/kit/history), and this package checks that everything ends in a
// bounded virtual time once the faults end.
//
//	make simulate SECONDS=120    new seeds for that time
//	make simulate HOURS=8        the same for a night, in hours of wall time
//	make simulate SEED=7         one seed again
//
// The tests have the build tag simulation. docs/proof.md says what is varied, how exact a
// replay is, and what a run costs.
package simulation
