// Package faults holds the fault tests. They kill, stop, cut off and slow real
// sidecars, real workers and a real Redis while producers push records, and
// check afterwards that every record ended exactly once. They have the build
// tag faults, since they take minutes:
//
//	go test -tags faults -count=1 ./sidecar/test/faults/
//
// "make faults" does the same. The producer, the workers (one line at the start
// and one at the end of each task) and an observer that reads Redis' MONITOR
// stream write what happens to a history file; the checks read that file and
// what is left in Redis. At the end a table says for each fault how often it was
// tried, how many promises were violated and how long the slowest recovery took.
//
// "make faults FLEET=mixed" builds the sidecar of the last release too (scripts/last-release)
// and runs the tests of mixed_test.go, and others in which several sidecars share a queue:
// in those, the sidecars and the commands of a test are of both versions in turns. They have
// the build tag mixed in addition.
//
// Environment:
//
//	FAULT_SEED      seed of the random tests; default: a new one, which is printed
//	FAULT_RUNS      number of kills in the random kill test; default 200
//	FAULT_SECONDS   longest duration of that test; default 120
//	FAULT_KEEP      a folder for histories and logs; default: a temporary one, kept
//	                after failures only
//	FAULT_SIDECAR   the binary to test; default: built from this source
//	FAULT_LAST_RELEASE  with the tag mixed: the folder that scripts/last-release prints
//	FAULT_BUILDFLAGS  further flags for building the sidecar, such as -race
//	REDISTEST_BINARY  the server, such as a valkey-server; default redis-server
//	GRAFLOW_PYTHON  a Python that has Graflow, for the comparison with its own
//	                worker; default .venv/graflow-latest/bin/python
package faults
