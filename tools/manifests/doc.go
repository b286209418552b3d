// Package manifests checks what `sidecar manifest` prints and what the Helm chart renders:
// against the types of the Kubernetes API and of the Prometheus operator, the Pod Security
// Standards, the definitions of KEDA 2.21 (testdata, from its release), compose's own loader
// and kustomize. It is a module of its own, so that none of them is a dependency of the
// binary.
package manifests
