// Package faults holds the fault tests: real sidecars, real workers and a real
// Redis, which are killed, stopped, cut off and slowed while producers push
// records, and a check afterwards that every record ended exactly once. They
// are behind the build tag faults, since they take minutes:
//
//	go test -tags faults -count=1 ./sidecar/test/faults/
//
// "make faults" does the same. What happened is written to a history file by
// the producer, by the workers (a line at the start and one at the end of each
// task) and by an observer that reads Redis' MONITOR stream; the checks are made
// on that file and on what is left in Redis. At the end a table says for each
// fault how often it was tried, what was violated and how long the slowest
// recovery took.
//
// Environment:
//
//	FAULT_SEED      plan of the random tests; default a new one, printed
//	FAULT_RUNS      how many kills the random kill test makes; default 200
//	FAULT_SECONDS   longest time that it goes on for; default 120
//	FAULT_KEEP      a folder for histories and logs; default: kept of failures only
//	FAULT_SIDECAR   the binary to test; default: built from this source
//	FAULT_BUILDFLAGS  further flags for building the sidecar, such as -race
//	REDISTEST_BINARY  the server, such as a valkey-server; default redis-server
//	GRAFLOW_PYTHON  a Python that has Graflow, for the comparison with its own
//	                worker; default .venv/graflow-latest/bin/python
package faults
