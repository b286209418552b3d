// Package arch holds the tests that keep the import arrows of this
// repository: which package may know which, and why.
package arch
