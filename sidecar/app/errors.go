package app

import (
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// RefusedError says that Redis refuses the sidecar for good; see its message.
type RefusedError = link.RefusedError

// StartError says that the worker could not be started; see its message.
type StartError = local.StartError
