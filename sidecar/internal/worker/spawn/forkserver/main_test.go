package forkserver

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable makes this binary run as a process of these tests.
const roleVariable = "ZYGOTE_TEST_ROLE"

// roles are the processes that it can be.
var roles = map[string]func(){}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		role()
		return
	}
	goleak.VerifyTestMain(m)
}
