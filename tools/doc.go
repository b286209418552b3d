// Package tools is the module that pins the linters and generators of the repository, so
// that the sidecar's go.mod lists only what the sidecar needs. scripts/setup-tools builds
// them. Checks with heavy dependencies have modules of their own below it.
package tools
