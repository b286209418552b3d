package app

import "github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"

// RefusedError says that Redis refuses the sidecar for good; see its message.
type RefusedError = link.RefusedError
