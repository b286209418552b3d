package serverproc

import "testing"

func TestConfigFile(t *testing.T) {
	settings, sentinel := directives([]string{
		"--appendonly", "yes", "--save", "", "--replicaof", "127.0.0.1 7000", "--requirepass", `a "b\c`,
	})
	if sentinel {
		t.Error("no sentinel was asked for")
	}
	want := `bind "127.0.0.1"
port "7001"
dir "/x y"
daemonize "no"
loglevel "notice"
save ""
appendonly "no"
appendonly "yes"
save ""
replicaof "127.0.0.1" "7000"
requirepass "a \"b\\c"
`
	if got := string(configFile(7001, "/x y", settings, sentinel)); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := password(settings); got != `a "b\c` {
		t.Errorf("password %q", got)
	}
	if got, want := quote("\x00é\n"), `"\x00é\x0a"`; got != want {
		t.Errorf("quote: %s, want %s", got, want)
	}
}
