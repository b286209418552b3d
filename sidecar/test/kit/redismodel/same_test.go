package redismodel_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/luascripts"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// TestSameAsRedis plays random histories on the model and on a real Redis: every script
// with realistic and with odd arguments, plain commands, wrong types, and a clock that
// steps. Each reply and, every few calls, the whole key space must be equal. REDISMODEL_CALLS
// is the number of calls; the seed is new in each run and printed on failure, and
// REDISMODEL_SEED repeats one.
func TestSameAsRedis(t *testing.T) {
	calls := number(t, "REDISMODEL_CALLS", 20_000)
	seed := uint64(number(t, "REDISMODEL_SEED", int(time.Now().UnixNano()%1_000_000)))
	p := newPair(t)
	failedReplies := 0
	h := newHistory(seed)
	for n := 0; n < calls; {
		if n%1000 == 0 {
			p.flush()
			h = newHistory(seed + uint64(n/1000)*1_000_003)
			p.play([][]string{h.step()})
		}
		batch := make([][]string, 0, 20)
		for len(batch) < cap(batch) {
			batch = append(batch, h.next())
		}
		failedReplies += p.play(batch)
		p.compare()
		if t.Failed() {
			t.Fatalf("REDISMODEL_SEED=%d, after %d calls; the last ones:\n%s", seed, n, join(batch))
		}
		n += len(batch)
	}
	t.Logf("%d calls with seed %d: equal replies, of them %d errors, and equal key spaces", calls, seed, failedReplies)
	if failedReplies == 0 || failedReplies > calls*3/4 {
		t.Errorf("%d of %d replies are errors: the histories are not realistic", failedReplies, calls)
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func join(batch [][]string) string {
	var b strings.Builder
	for _, args := range batch {
		if args[0] == "EVALSHA" {
			args = append([]string{scriptNames[args[1]]}, args[3:]...)
		}
		fmt.Fprintf(&b, "%q\n", args)
	}
	return b.String()
}

// pair is the model beside a real Redis of its own.
type pair struct {
	t     *testing.T
	model *redismodel.DB
	real  *redis.Client
}

// The scripts read the time from a key, so that both have the same one.
const (
	readTime = "redis.call('TIME')"
	keptTime = "redis.call('HMGET', 'time', 's', 'us')"
)

var scriptNames = make(map[string]string) // SHA-1 → name

var scriptSHAs = make(map[string]string)

func newPair(t *testing.T) *pair {
	t.Helper()
	server := redistest.Start(t, "--save", "")
	p := &pair{t: t, model: redismodel.New(time.Now), real: redis.NewClient(&redis.Options{Addr: server.Addr, Protocol: 2, MaxRetries: -1, ReadTimeout: 20 * time.Second})}
	t.Cleanup(func() { _ = p.real.Close() })
	files, err := luascripts.Files()
	if err != nil {
		t.Fatal(err)
	}
	if err := luascripts.Edit(files, "prelude", readTime, keptTime); err != nil {
		t.Fatal(err)
	}
	sources, err := luascripts.Sources(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range sources {
		sha, err := p.model.LoadScript(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.real.ScriptLoad(t.Context(), source).Result(); err != nil || got != sha {
			t.Fatalf("load %s: %q, %v", name, got, err)
		}
		scriptNames[sha], scriptSHAs[name] = name, sha
	}
	return p
}

func (p *pair) flush() {
	p.model.Do("FLUSHALL")
	if err := p.real.FlushAll(p.t.Context()).Err(); err != nil {
		p.t.Fatal(err)
	}
}

// play runs commands on both and compares the replies. It returns the number of errors.
func (p *pair) play(batch [][]string) (failures int) {
	p.t.Helper()
	cmds := make([]*redis.Cmd, len(batch))
	_, _ = p.real.Pipelined(p.t.Context(), func(pipe redis.Pipeliner) error { // each command has its own error
		for i, args := range batch {
			words := make([]any, len(args))
			for j, a := range args {
				words[j] = a
			}
			cmds[i] = pipe.Do(context.Background(), words...)
		}
		return nil
	})
	for i, args := range batch {
		value, err := cmds[i].Result()
		want := text(value, err)
		endless := time.AfterFunc(time.Minute, func() { panic("a script does not end:\n" + join([][]string{args})) })
		got := p.model.Do(args...)
		endless.Stop()
		failures += count(got.Err() != "")
		name := args[0]
		if name == "EVALSHA" {
			name = scriptNames[args[1]]
		}
		have := text(got.Any(), nil)
		if unordered[name] {
			want, have = sortedText(value, err), sortedText(got.Any(), nil)
		}
		if have != want {
			p.t.Errorf("call %d: %s: the model answers\n%s, Redis\n%s\n(%v)", i, join([][]string{args}), have, want, got)
		}
	}
	return failures
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// unordered are the commands, and the scripts with lists of runs, whose replies have no
// order.
var unordered = map[string]bool{"HGETALL": true, "HKEYS": true, "HVALS": true, "SMEMBERS": true, "KEYS": true, "SCAN": true, "tick": true}

// text is a reply for comparison. Of an error that the Lua interpreter makes only the line
// is compared, and the name of a script is left out.
func text(value any, err error) string {
	if err == nil {
		err, _ = value.(error)
	}
	switch {
	case errors.Is(err, redis.Nil):
		return "nil"
	case err != nil:
		said, _, _ := strings.Cut(err.Error(), " script: ")
		if rest, ok := strings.CutPrefix(said, "ERR user_script:"); ok {
			line, _, _ := strings.Cut(rest, ":")
			return "error in line " + line
		}
		return "error " + said
	}
	switch v := value.(type) {
	case nil:
		return "nil"
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			list[i] = text(e, nil)
		}
		return "[" + strings.Join(list, " ") + "]"
	default:
		return fmt.Sprintf("%T %q", v, fmt.Sprint(v))
	}
}

func sortedText(value any, err error) string {
	list, ok := value.([]any)
	if !ok || err != nil {
		return text(value, err)
	}
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = sortedText(e, nil)
	}
	sort.Strings(texts)
	return strings.Join(texts, " ")
}

// compare compares the key spaces. Times to live may differ by the time between two calls.
func (p *pair) compare() {
	p.t.Helper()
	ctx := p.t.Context()
	keys, err := p.real.Keys(ctx, "*").Result()
	if err != nil {
		p.t.Fatal(err)
	}
	slices.Sort(keys)
	if got := p.model.Keys(); !slices.Equal(got, keys) {
		p.t.Errorf("the model has the keys\n%q, Redis\n%q", got, keys)
		return
	}
	for _, key := range keys {
		kind, err := p.real.Type(ctx, key).Result()
		if err != nil {
			p.t.Fatal(err)
		}
		read := map[string][]string{
			"string": {"GET", key}, "list": {"LRANGE", key, "0", "-1"}, "hash": {"HGETALL", key},
			"set": {"SMEMBERS", key}, "zset": {"ZRANGE", key, "0", "-1", "WITHSCORES"},
		}[kind]
		if got := p.model.Do("TYPE", key).Text; got != kind {
			p.t.Errorf("%s is a %s in the model, and a %s in Redis", key, got, kind)
			continue
		}
		p.play([][]string{read})
		want, err := p.real.Do(ctx, "PTTL", key).Int64()
		if err != nil {
			p.t.Fatal(err)
		}
		got := p.model.Do("PTTL", key).Int
		if want > 0 {
			if got < want-30_000 || got > want+30_000 { // the machine may be busy
				p.t.Errorf("%s expires in %d ms in the model, and in %d ms in Redis", key, got, want)
			}
		} else if got != want {
			p.t.Errorf("%s: time to live %d in the model, %d in Redis", key, got, want)
		}
	}
}

// history makes random calls.
type history struct {
	rnd  *rand.Rand
	now  int64 // ms, that the scripts see
	turn int
}

func newHistory(seed uint64) *history {
	return &history{rnd: rand.New(rand.NewPCG(seed, 2)), now: 1_790_000_000_000}
}

func (h *history) one(list ...string) string { return list[h.rnd.IntN(len(list))] }

// odd are arguments that no caller sends: scripts must treat them as Redis does.
var odd = []string{
	"", "0", "-1", "007", "1e3", "1.5", "-0.5", " 7 ", "0x10", "nan", "inf", "-inf", "abc", "9007199254740993", "99999999999999999999",
	"4294967296", "1e300", "a\x00", "ö", "r1.1", "true", strings.Repeat("x", 300),
}

func (h *history) next() []string {
	switch n := h.rnd.IntN(100); {
	case n < 6:
		return h.step()
	case n < 9:
		return h.spoil()
	case n < 30:
		return h.plain()
	default:
		args := h.script()
		if at := h.rnd.IntN(len(args)-4) + 4; h.rnd.IntN(12) == 0 {
			word := h.one(odd...)
			if at == 6 {
				word = h.one("", "abc", "-1", "0", "1e3") // a lease: no time to live that ends soon or overflows
			}
			if !excepted(scriptNames[args[1]], at, word) {
				args[at] = word
			}
		}
		return args
	}
}

// excepted reports arguments that a Store never sends and that are not tried: a script
// would not end, would divide zero by zero, whose sign differs, would join infinity with a
// text, which Lua leaves to the C library, or would search for a pattern that ends at a zero
// byte in Redis.
func excepted(script string, at int, word string) bool {
	switch script {
	case "part":
		return true
	case "tick":
		return at == 14
	case "report":
		return at == 9
	case "release", "delay":
		return at == 8
	case "claim", "claim_routed":
		seq, err := strconv.ParseFloat(word, 64)
		return at == 11 && err == nil && !(seq < 1<<52) || at == 14 && strings.Contains(word, "\x00")
	case "reap":
		return at == 11 && strings.Contains(word, "inf")
	case "take_isolated":
		return at == 10 && strings.Contains(word, "\x00")
	default:
		return false
	}
}

// step moves the clock that the scripts see.
func (h *history) step() []string {
	h.now += []int64{1, 499, 500, 501, 1500, 1501, 1502, 6000, 60_000, 3_600_000, 86_400_000, -1, -1000, -86_400_000}[h.rnd.IntN(14)]
	return []string{"HSET", "time", "s", strconv.FormatInt(h.now/1000, 10), "us", strconv.FormatInt(h.now%1000*1000+int64(h.rnd.IntN(1000)), 10)}
}

func (h *history) run() string { return h.one("r1", "r2", "r3") }
func (h *history) delivery() string {
	return h.run() + "." + h.one("1", "2", "3", "4", "1099511627777")
}

func (h *history) record() string {
	return h.one(`{"task_id": "a", "group": 1}`, `{"task_id":"b.x"}`, `{"x":"\u00e4","task_id":"c"}`, "no json", strings.Repeat("long ", 40), "")
}
func (h *history) group() string { return h.one("g1", "g2") }

// key returns a key of the prefix p, of the sort that the scripts use.
func (h *history) key() string {
	run := h.run()
	return h.one("p:queue", "p:workers", "p:completions:g1", "p:barrier:g1", "p:barrier:g1:expected", "p:barrier:g2:expected", "p:barrier:g2",
		"p:sidecar:runs", "p:sidecar:alive:"+run, "p:sidecar:info:"+run, "p:sidecar:meta:"+run, "p:sidecar:inbox:"+run, "p:sidecar:inflight:"+run,
		"p:sidecar:asked:"+run, "p:sidecar:orders:"+run, "p:sidecar:paused", "p:sidecar:gone", "p:sidecar:watch", "p:sidecar:clock", "p:sidecar:format", "p:sidecar:queue", "p:named",
		"p:sidecar:attempts", "p:sidecar:attempts:at", "p:sidecar:delayed", "p:sidecar:delayed:records", "p:sidecar:isolated", "p:sidecar:unrouted",
		"p:sidecar:dead", "p:sidecar:dead:"+h.delivery(), "p:sidecar:parts:"+h.delivery(), "p:sidecar:counted:20717:g1", "graflow:channel:s:t")
}

// spoil deletes a key or gives it another type.
func (h *history) spoil() []string {
	key := h.key()
	switch h.rnd.IntN(8) {
	case 0:
		return []string{"SET", key, "text"}
	case 1:
		return []string{"RPUSH", key, "element"}
	case 2:
		return []string{"HSET", key, "field", h.one("x", "1e300", "nan")}
	default:
		return []string{"DEL", key}
	}
}

// plain returns a command that is no script: those of a Store, and those that scripts call,
// with arguments that need not fit.
func (h *history) plain() []string {
	key, n, m := h.key(), strconv.Itoa(h.rnd.IntN(6)-2), h.one("0", "1", "3", "-1", "60000", h.one(odd...))
	score := h.one("1", "2", "2.5", "-3", "(1", "-inf", "+inf", "1e20", "0.1", h.one(odd...))
	side, other := h.one("LEFT", "RIGHT", "left", "x"), h.one("LEFT", "RIGHT")
	word := h.one("a", "b", "c", "field", h.record(), h.one(odd...))
	life := h.one("60000", "600000", "0", "-1", "x", "007", "") // nothing expires between two calls
	all := [][]string{
		{"RPUSH", "p:queue", h.record()},
		{"RPUSH", "p:queue", h.record(), h.record()},
		{"LPUSH", "p:queue", h.record()},
		{"RPUSH", "p:queue", h.record()},
		{"SET", "p:barrier:" + h.group() + ":expected", h.one("1", "3", "5", "x", "-1")},
		{"DEL", "p:barrier:" + h.group()},
		{"LMOVE", "p:queue", "p:sidecar:inbox:" + h.run(), side, other},
		{"LMOVE", key, h.key(), "LEFT", "RIGHT"},
		{"GET", key},
		{"SET", key + "x", word},
		{"SET", key + "x", word, "PX", life},
		{"SET", key + "x", word, "NX"},
		{"SET", key + "x", word, "XX", "EX", life},
		{"SET", key + "x", word, "NX", "XX"},
		{"SET", key + "x", word, "KEEPTTL"},
		{"STRLEN", key + "x"},
		{"MGET", key, key + "x"},
		{"INCR", key + "x"},
		{"DECR", key + "x"},
		{"INCRBY", key + "x", m},
		{"DECRBY", key + "x", m},
		{"INCRBYFLOAT", key + "x", m},
		{"INCRBYFLOAT", key + "x", h.one("0.1", "0.2", "1e-7", "3.0e3")},
		{"EXISTS", key, key, "none"},
		// Not onto the keys of scripts: a value of another program there, such as the number of
		// the last record of a claim, lets a script run for as long as the number says.
		{"RENAME", key + "x", h.one(key+"x", key+"y")},
		{"RENAME", key + "y", key + "x"},
		{"TYPE", key},
		{"PEXPIRE", key, h.one("100000", "0", "-5", "x", "9223372036854775807", "1e5")},
		{"EXPIRE", key + "x", h.one("100", "x", "0")},
		{"PERSIST", key},
		{"TTL", "none"},
		{"KEYS", h.one("p:*", "p:sidecar:[ad]*", "p:?ueue", `p:\*`, "*[^e]", "p:[a-r]*")},
		{"SCAN", "0", "MATCH", "p:sidecar:in*", "COUNT", "1000"},
		{"SCAN", "x"},
		{"SCAN", "0", "COUNT", "0"},
		{"LLEN", key},
		{"LRANGE", key, n, m},
		{"LINDEX", key, n},
		{"LPOP", key + "l", h.one("1", "2", "0", "-1", "x")},
		{"RPOP", key + "l"},
		{"LPUSH", key + "l", word},
		{"RPUSH", key + "l", word, "y"},
		{"LSET", key + "l", n, word},
		{"LREM", key + "l", n, word},
		{"LMOVE", key + "l", key + "m", side, other},
		{"HGET", key, word},
		{"HMGET", key, word, "at"},
		{"HGETALL", key},
		{"HKEYS", key},
		{"HVALS", key},
		{"HLEN", key},
		{"HEXISTS", key, word},
		{"HSET", key + "h", word, m, "b", "2"},
		{"HSET", key + "h", word},
		{"HSETNX", key + "h", word, m},
		{"HDEL", key + "h", word, "b"},
		{"HINCRBY", key + "h", word, m},
		{"SADD", key + "s", word, n},
		{"SREM", key + "s", word},
		{"SCARD", key},
		{"SMEMBERS", key},
		{"SISMEMBER", key + "s", word},
		{"SMISMEMBER", key + "s", word, n},
		{"ZADD", key + "z", strings.TrimPrefix(score, "("), word},
		{"ZADD", key + "z", "1", "a", "2"},
		{"ZREM", key + "z", word},
		{"ZCARD", key},
		{"ZSCORE", key + "z", word},
		{"ZINCRBY", key + "z", strings.TrimPrefix(score, "("), word},
		{"ZRANGE", key + "z", n, m},
		{"ZRANGE", key + "z", n, "-1", "WITHSCORES"},
		{"ZREVRANGE", key + "z", n, m},
		{"ZRANGEBYSCORE", key + "z", "-inf", score},
		{"ZRANGEBYSCORE", key + "z", score, "+inf", "WITHSCORES", "LIMIT", "0", m},
		{"PUBLISH", "c", word},
		{"ECHO", word},
		{"PING"},
		{"PING", word},
		{"CONFIG", "GET", "proto-max-bulk-len"},
		{"EVALSHA", "none", "0"},
		{"EVAL", "return {1, 2.9, 'x', true, false, nil, 3}", "0"},
		{"EVAL", "return redis.pcall('HGET', KEYS[1], 'x')", "1", key},
		{"EVAL", "return {tostring(1/3), tonumber('0x10'), tonumber(ARGV[1]), tostring(2^40), string.format('%.0f', 2^53)}", "0", word},
		{"EVAL", "return redis.error_reply(ARGV[1])", "0", h.one("WHY not", "-WHY not", "word")},
		{"EVAL", "return redis.status_reply('fine')", "0"},
		{"EVAL", "x = 1", "0"},
		{"EVAL", "return redis.call('NOSUCH')", "0"},
		{"EVAL", "return redis.call('GET')", "0"},
		{"EVAL", "return redis.call('GET', {})", "0"},
		{"EVAL", "return redis.sha1hex(ARGV[1])", "0", word},
		{"GET"},
		{"NOSUCH", n},
		{"EVAL", "return 1", h.one("1", "-1", "x")},
	}
	return all[h.rnd.IntN(len(all))]
}

// script returns a call of a script, with the arguments of a Store.
func (h *history) script() []string {
	run, other, delivery := h.run(), h.run(), h.delivery()
	format := h.one("1", "1", "1", "1", "1", "2")
	own, sha := run+"."+h.one("1", "2", "3"), redismodel.SHA1(h.record())
	inflight, alive, inbox := "p:sidecar:inflight:"+run, "p:sidecar:alive:"+run, "p:sidecar:inbox:"+run
	h.turn++
	turn := strconv.Itoa(h.turn - h.rnd.IntN(3)) // a repeated or a late one
	small := h.one("1", "2", "3", "10")
	bytes := h.one("60", "4194304", "4194304")
	call := func(name, key string, args ...string) []string {
		return append([]string{"EVALSHA", scriptSHAs[name], "1", key, "p", run, "600000", h.one("left", "left", "right", "left p:named", "right p:sidecar:unrouted")}, args...)
	}
	channel := func(name string, args ...string) []string {
		return append([]string{
			"EVALSHA", scriptSHAs[name], "3", "p:sidecar:asked:" + run, inflight, h.one("graflow:channel:s:t", h.key()),
			h.one("", own), h.one("l1", "l2"), turn, "86400000", h.one("", "grows"),
		}, args...)
	}
	claiming := []string{turn, small, bytes, h.one("0", "0", "5"), h.one("524288", "100"), h.one("65536", "10")}
	letter := []string{"failed", "message", "stderr", "3", "123", strconv.FormatInt(h.now, 10), "s"}
	report := func() []string {
		task := h.one("a", "b", "c", "")
		one := []string{
			h.one(own, own, delivery), task, h.one("", h.group()), task + "\x001", `{"success":` + h.one("true", "false") + "}",
			h.one("", "", "graflow:channel:s:"+task), "v", h.one("", sha), h.one("", "", "expires"),
		}
		if h.rnd.IntN(3) == 0 {
			one[7], one[8] = h.one("*", sha), "dead"
			one = append(one, letter...)
		}
		return one
	}
	switch h.rnd.IntN(26) {
	case 0:
		return call("register", alive, format)
	case 1:
		return call("register", alive, format, other, run)
	case 2:
		return call("renew", alive, h.one("", "{}"), "host:"+run)
	case 3, 4, 5:
		return call("claim", inflight, claiming...)
	case 6, 7:
		return call("claim_routed", inflight, append(claiming, h.one("a\nb.*", "*", "c", "a?*"), h.one("1000", "0"), h.one("1", "0"), h.one("2", "0"))...)
	case 8, 9, 10:
		reports := []string{"86400000", "1", h.one("100", "100000"), h.one("600000", "86400000")}
		n := 1 + h.rnd.IntN(3)
		reports[1] = strconv.Itoa(n)
		for range n {
			reports = append(reports, report()...)
		}
		return call("report", inflight, reports...)
	case 11, 12:
		return call("release", inflight, "2", own, h.one("", "lost", "unread"), h.one("", "child", "run"), h.one("1", "2", "3"), h.one("", sha),
			h.one(own, delivery), h.one("", "lost"), h.one("", "run"), h.one("1", "3"), "")
	case 13, 14:
		return call("delay", inflight, "2", own, h.one("0", "1000", "3600000"), h.one("", "count", "isolate"), "", delivery, "500", "isolate", h.one("", sha))
	case 15, 16, 17:
		return call("tick", alive, h.one("", "{}"), "host:"+run, h.one("256", "1"), bytes, "3600000", "86400000", h.one("100", "1"),
			"500", "1500", h.one("1501", "0"), "1000", "8", h.one("", strconv.FormatInt(h.now-1000, 10)), h.one("0", "1000"), "1000", h.one("60", "0"), format, h.one("0", "1", "3"), h.one("0", "1000", "86400000"))
	case 18:
		return call("retire", "p:sidecar:inflight:"+other, other, h.one("dead", "clean"))
	case 19, 20:
		return call("reap", "p:sidecar:inflight:"+other, other, h.one("256", "1"), bytes, h.one("1", "3"), "0", h.one("65536", "5"), h.one("524288", "8"))
	case 21:
		return call("reconcile", inflight, "256", bytes, h.one("9223372036854775807", "2"), own, delivery)
	case 22:
		return call("requeue", "p:sidecar:dead:"+delivery, delivery, h.one("", "force"), "86400000", format)
	case 23:
		return h.oneCall(
			call("drop", "p:sidecar:dead:"+delivery, delivery, format),
			call("trim_dead", "p:sidecar:dead", h.one("0", "1", "2"), h.one("0", "1000", "86400000"), h.one("1", "2", "100"), format), call("collect", inbox, small, bytes), call("pause", "p:sidecar:paused", h.one(run, "*"), h.one("{}", ""), format),
			call("command", "p:sidecar:orders:"+other, "{}", "60000", format), call("part", inflight, own, h.one("0", "1"), h.one("1", "2"), "7", "15000"),
			call("take_isolated", inbox, turn, bytes, h.one("", "a\nb.*"), "1", "1"))
	case 24:
		return h.oneCall(
			[]string{"EVALSHA", scriptSHAs["heads"], "1", h.one("p:sidecar:dead:"+delivery, inflight), "1", "5", "raw", own},
			[]string{"EVALSHA", scriptSHAs["list_heads"], "1", h.one("p:queue", "p:sidecar:unrouted"), h.one("0", "-1"), h.one("1", "-1"), small, "5", "20", "100"},
		)
	default:
		return h.oneCall(
			channel("channel_set", "v", h.one("0", "60000")), channel("channel_add", h.one("1", "0.1", "x")), channel("channel_delete"),
			channel("channel_lock", h.one("t1", "t2"), "60000"), channel("channel_unlock", h.one("t1", "t2")), channel("enqueue", h.record()),
			channel("channel_push", h.one("RPUSH", "LPUSH"), "v", h.one("0", "60000")))
	}
}

func (h *history) oneCall(calls ...[]string) []string { return calls[h.rnd.IntN(len(calls))] }

// BenchmarkScript measures a claim and a report of one record.
func BenchmarkScript(b *testing.B) {
	files, err := luascripts.Files()
	if err != nil {
		b.Fatal(err)
	}
	sources, err := luascripts.Sources(files)
	if err != nil {
		b.Fatal(err)
	}
	db := redismodel.New(time.Now)
	shas := make(map[string]string)
	for name, source := range sources {
		if shas[name], err = db.LoadScript(source); err != nil {
			b.Fatal(err)
		}
	}
	db.Do("EVALSHA", shas["register"], "1", "p:sidecar:alive:r", "p", "r", "6000", "left")
	n := 0
	for b.Loop() {
		n++
		db.Do("RPUSH", "p:queue", `{"task_id": "a"}`)
		claimed := db.Do("EVALSHA", shas["claim"], "1", "p:sidecar:inflight:r", "p", "r", "6000", "left", strconv.Itoa(n), "1", "4000000", "0", "500000", "60000")
		if claimed.Err() != "" || len(claimed.Array[1].Array) != 1 {
			b.Fatal(claimed)
		}
		d := "r." + strconv.Itoa(n)
		if r := db.Do("EVALSHA", shas["report"], "1", "p:sidecar:inflight:r", "p", "r", "6000", "left", "86400000", "1", "100", "86400000", d, "a", "", "a", "{}", "", "", "", ""); r.Text != "completed-no-group" {
			b.Fatal(r)
		}
	}
}
