package rpc

import (
	"fmt"
	"maps"
	"slices"

	"github.com/graflow/graflow-sidecar/protocol"
)

// declaredInputs are the inputs that a worker declared for the tasks of one pattern.
type declaredInputs struct {
	pattern string
	names   []string
}

// parseInputs reads the declared inputs of an answer to initialize, and returns what is
// wrong with them.
func parseInputs(inputs map[string][]string) (list []declaredInputs, problem string) {
	names := 0
	for _, pattern := range slices.Sorted(maps.Keys(inputs)) {
		list = append(list, declaredInputs{pattern, inputs[pattern]})
		names += len(inputs[pattern])
		for _, name := range inputs[pattern] {
			if len(name) > protocol.MaxKeyBytes {
				return nil, fmt.Sprintf("its answer to initialize declares an input whose name has %d bytes, more than %d", len(name), protocol.MaxKeyBytes)
			}
		}
	}
	if len(list) > protocol.MaxInputPatterns || names > protocol.MaxInputNames {
		return nil, fmt.Sprintf("its answer to initialize declares %d inputs for %d patterns; %d and %d are the most",
			names, len(list), protocol.MaxInputNames, protocol.MaxInputPatterns)
	}
	return list, ""
}
