package host

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const privateVariable = "SIDECAR_TEST_PRIVATE"

// TestKeepPrivate: from then on the process' files in /proc are root's, and those
// of what it starts are not.
func TestKeepPrivate(t *testing.T) {
	tell := func() string {
		n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		return fmt.Sprint("dumpable=", n, err)
	}
	again := func(role string) string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKeepPrivate$", "-test.v")
		cmd.Env = append(os.Environ(), privateVariable+"="+role)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprint(err, string(out))
		}
		return string(out)
	}
	switch os.Getenv(privateVariable) {
	case "parent":
		KeepPrivate()
		fmt.Println("parent", tell())
		fmt.Println(again("child"))
	case "child":
		fmt.Println("child", tell())
	default:
		out := again("parent")
		for _, want := range []string{"parent dumpable=0 <nil>", "child dumpable=1 <nil>"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in:\n%s", want, out)
			}
		}
	}
}
