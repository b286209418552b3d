// Package version says which build of the sidecar this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Number is the release; the build sets it with -ldflags "-X …version.Number=…".
var Number = "0.1.0-dev"

// String is the one line that `sidecar version` prints: the release, the
// commit where the build knows it, and what it was built with.
func String() string {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				commit = " (" + s.Value[:12] + ")"
			}
		}
	}
	return fmt.Sprintf("graflow-sidecar %s%s %s %s/%s", Number, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
