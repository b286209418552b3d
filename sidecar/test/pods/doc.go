// Package pods runs the sidecar in containers that share a network and volumes as
// those of a pod do: as a worker container's entrypoint (pattern A) and as a
// container beside it (pattern B, docs/socket.md), with real Graflow workflows. It
// kills and stops them and looks whether anything was lost.
//
// The tests have the build tag pods and need a Docker daemon and the images that
// scripts/pods makes:
//
//	make pods
package pods
