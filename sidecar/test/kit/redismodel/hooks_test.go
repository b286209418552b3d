package redismodel_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

func TestObserve(t *testing.T) {
	db := redismodel.New(time.Now)
	var seen []string
	db.Observe = func(args []string, script bool) {
		from := "client "
		if script {
			from = "script "
		}
		seen = append(seen, from+strings.Join(args[:min(len(args), 2)], " "))
	}
	db.Do("SET", "a", "1")
	db.Do("LPUSH", "a", "x") // of another type
	db.Do("EVAL", "redis.call('SET', KEYS[1], 'x')", "1", "b")
	want := []string{"client SET a", "script SET b", "client EVAL redis.call('SET', KEYS[1], 'x')"}
	if !slices.Equal(seen, want) {
		t.Errorf("%q, want %q", seen, want)
	}
}

func TestRefuse(t *testing.T) {
	const refusal = "NOPERM a test"
	db := redismodel.New(time.Now)
	db.Do("SET", "a", "1")
	db.Refuse = func(args []string) string {
		if args[0] == "GET" && args[1] == "a" {
			return refusal
		}
		return ""
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"GET", "a"}, refusal},
		{[]string{"GET", "b"}, ""},
		{[]string{"SET", "a", "2"}, "OK"},
		{[]string{"EVAL", "return redis.pcall('GET', KEYS[1]).err", "1", "a"}, refusal},
		{[]string{"EVAL", "return redis.pcall('GET', KEYS[1])", "1", "b"}, ""},
	} {
		if got := db.Do(c.args...).Text; got != c.want {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestRewrite(t *testing.T) {
	const source = "return 1"
	changed := redismodel.New(time.Now)
	changed.Rewrite = func(source string) string { return strings.Replace(source, "1", "2", 1) }
	for _, c := range []struct {
		db   *redismodel.DB
		want int64
	}{{redismodel.New(time.Now), 1}, {changed, 2}, {redismodel.New(time.Now), 1}} {
		if got := c.db.Do("EVAL", source, "0").Int; got != c.want {
			t.Errorf("EVAL: %d, want %d", got, c.want)
		}
		if got := c.db.Do("EVALSHA", redismodel.SHA1(source), "0").Int; got != c.want {
			t.Errorf("EVALSHA: %d, want %d", got, c.want)
		}
	}
}
