// Package e2e holds the end-to-end tests: real Graflow producers in processes
// of their own, a real Redis, and the sidecar binary between that Redis and
// the workers. The tests are behind the build tag e2e, so that "go test ./..."
// stays quick:
//
//	go test -tags e2e ./sidecar/test/e2e/
//
// Environment:
//
//	GRAFLOW_PYTHON   a Python that has Graflow; default .venv/graflow-latest/bin/python
//	                 at the top of the repository, which "make venv" makes
//	GRAFLOW_PRODUCER_PYTHON
//	                 another Python for producers and Graflow's own worker
//	E2E_WORKER       "graflow" runs Graflow's own worker in place of the sidecar, to
//	                 see that a producer script is right; tests of what only the
//	                 sidecar can do are left out then
//	E2E_BUILDFLAGS   further flags for building the sidecar, such as -race
package e2e
