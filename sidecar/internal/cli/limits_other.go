//go:build unix && !linux

package cli

// rlimitProcesses is RLIMIT_NPROC, which has this number on the BSDs and macOS.
const rlimitProcesses = 7
