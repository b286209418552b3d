package rpc

import (
	"fmt"
	"maps"
	"slices"

	"github.com/graflow/graflow-sidecar/protocol"
)

// wanted are the inputs that a worker declared for the tasks of one pattern.
type wanted struct {
	pattern string
	names   []string
}

// declared reads what a worker declared, and what is wrong with it.
func declared(inputs map[string][]string) (list []wanted, problem string) {
	names := 0
	for _, pattern := range slices.Sorted(maps.Keys(inputs)) {
		list = append(list, wanted{pattern, inputs[pattern]})
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
