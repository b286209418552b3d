package pyworker

import _ "embed" // the example

// Example is the source of worker.py, for the demo.
//
//go:embed worker.py
var Example string
