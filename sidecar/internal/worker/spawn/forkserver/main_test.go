package forkserver

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable makes this binary play a process of these tests.
const roleVariable = "ZYGOTE_TEST_ROLE"

// roles are what it can play.
var roles = map[string]func(){}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		role()
		return
	}
	goleak.VerifyTestMain(m)
}
