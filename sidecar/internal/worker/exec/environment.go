package exec

import (
	"slices"
	"strings"
)

// taskVariables are the variables that describe the task of a process. They are removed
// from the sidecar's environment, so that a process never inherits one that its task
// lacks.
var taskVariables = []string{
	"SIDECAR_TASK_ID", "SIDECAR_SESSION_ID", "SIDECAR_GROUP_ID", "SIDECAR_ATTEMPT", "SIDECAR_DEADLINE",
	"SIDECAR_PROCESS_ID", "TRACEPARENT",
}

// without returns an environment without some names.
func without(env, names []string) []string {
	return slices.Clip(slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	}))
}

// longestVariable bounds a variable well below the limit of the kernel (128 KiB for
// each on Linux): a process with a longer one could never be started.
const longestVariable = 32 << 10
