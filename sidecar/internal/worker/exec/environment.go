package exec

import (
	"slices"
	"strings"
)

// perTask are the variables that a process gets about its task. Those that a
// task lacks must not be left standing from our own environment.
var perTask = []string{
	"SIDECAR_TASK_ID", "SIDECAR_SESSION_ID", "SIDECAR_GROUP_ID", "SIDECAR_ATTEMPT", "SIDECAR_DEADLINE",
	"SIDECAR_PROCESS_ID", "TRACEPARENT",
}

// without returns the environment without the names.
func without(env, names []string) []string {
	return slices.Clip(slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	}))
}

// longestVariable keeps what a record says well below what the kernel takes
// (128 KiB a string on Linux): a start that fails for it would fail for ever.
const longestVariable = 32 << 10
