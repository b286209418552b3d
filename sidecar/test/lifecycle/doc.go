// Package lifecycle holds the tests of the sidecar's life and death as others
// see it: the built binary around this test binary as its worker, on a real
// Redis, with real signals. They take minutes and stand behind the build tag
// lifecycle: make lifecycle.
//
// Environment:
//
//	LIFECYCLE_RUNS        how many times a SIGTERM comes at a random instant; default 200, with
//	                      -short 40
//	LIFECYCLE_SEED        seed of those instants; default a new one, printed
//	LIFECYCLE_IMAGE       image of Redis: adds an outage in which its container is removed
//	GRAFLOW_PYTHON        Python with Graflow; default .venv/graflow-latest, see make venv
//	LIFECYCLE_BUILDFLAGS  further flags for building the sidecar, such as -race
package lifecycle
