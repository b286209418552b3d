// Package manifests checks what `sidecar manifest` prints against the types of
// the Kubernetes API, the definitions of KEDA 2.21 (testdata, from its release) and
// compose's own loader. It is a module of its own, so that none of them is a
// dependency of the binary.
package manifests
