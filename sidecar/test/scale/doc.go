// Package scale measures what a fleet of sidecars asks of one Redis. Its tests
// have the tag scale; `make scale` runs them and prints the tables of
// docs/scaling.md.
package scale
