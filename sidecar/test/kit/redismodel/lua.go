package redismodel

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// interpreter runs the scripts of one database. Its state is made once and reused:
// scripts cannot create globals, so a call leaves nothing behind.
type interpreter struct {
	state     *lua.LState
	functions map[string]*lua.LFunction // by SHA-1
	sha       string                    // of the script that runs
	args      []string                  // of the command that a script calls
}

// chunk is the name of a script in error messages.
const chunk = "user_script"

// prototypes has the compiled scripts of the process by SHA-1: *lua.FunctionProto.
var prototypes sync.Map

func compiled(source string) (*lua.FunctionProto, error) {
	sha := SHA1(source)
	if p, ok := prototypes.Load(sha); ok {
		return p.(*lua.FunctionProto), nil
	}
	parsed, err := parse.Parse(strings.NewReader(source), chunk)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	p, err := lua.Compile(parsed, chunk)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	prototypes.Store(sha, p)
	return p, nil
}

// SHA1 returns the SHA-1 of a text in hex, the name of a script.
func SHA1(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// LoadScript makes a script known for EVALSHA and returns its SHA-1.
func (db *DB) LoadScript(source string) (sha string, err error) {
	sha = SHA1(source)
	if db.scripts[sha] == "" {
		if db.Rewrite != nil {
			source = db.Rewrite(source)
		}
		if _, err := compiled(source); err != nil {
			return "", err
		}
		db.scripts[sha] = source
	}
	return sha, nil
}

// eval runs a script. args begin with the number of keys.
func (db *DB) eval(sha string, args []string) Reply {
	n, ok := parseInt(args[0])
	switch {
	case !ok:
		return failed(errInteger)
	case n > int64(len(args)-1):
		return failed("ERR Number of keys can't be greater than number of args")
	case n < 0:
		return failed("ERR Number of keys can't be negative")
	}
	fn, err := db.lua.function(db, sha)
	if err != nil {
		return failed("ERR Error compiling script (new function): " + err.Error())
	}
	l := db.lua.state
	globals := l.G.Global
	globals.RawSetString("KEYS", tableOf(l, args[1:1+n]))
	globals.RawSetString("ARGV", tableOf(l, args[1+n:]))
	db.nested, db.writes, db.lua.sha = true, false, sha
	l.Push(fn)
	err = l.PCall(0, 1, nil)
	db.nested = false
	if err != nil {
		l.SetTop(0)
		return failed(db.lua.errorText(err))
	}
	reply := toReply(l.Get(-1))
	l.SetTop(0)
	return reply
}

func (in *interpreter) function(db *DB, sha string) (*lua.LFunction, error) {
	if fn := in.functions[sha]; fn != nil {
		return fn, nil
	}
	if in.state == nil {
		in.open(db)
	}
	proto, err := compiled(db.scripts[sha])
	if err != nil {
		return nil, err
	}
	fn := in.state.NewFunctionFromProto(proto)
	in.functions[sha] = fn
	return fn, nil
}

func tableOf(l *lua.LState, list []string) *lua.LTable {
	t := l.CreateTable(len(list), 0)
	for _, text := range list {
		t.Append(lua.LString(text))
	}
	return t
}

func (in *interpreter) open(db *DB) {
	in.functions = make(map[string]*lua.LFunction)
	l := lua.NewState(lua.Options{SkipOpenLibs: true, RegistrySize: 16 << 10, CallStackSize: 200})
	in.state = l
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.StringLibName, lua.OpenString},
		{lua.MathLibName, lua.OpenMath},
	} {
		l.Push(l.NewFunction(lib.open))
		l.Push(lua.LString(lib.name))
		l.Call(1, 0)
	}
	globals := l.G.Global
	for _, name := range []string{"print", "dofile", "loadfile", "require", "module", "newproxy", "_printregs"} {
		globals.RawSetString(name, lua.LNil)
	}
	globals.RawSetString("tonumber", l.NewFunction(toNumber))
	globals.RawSetString("tostring", l.NewFunction(toText))
	globals.RawSetString("redis", in.library(db))
	protection := l.NewTable()
	protection.RawSetString("__index", l.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Script attempted to access nonexistent global variable '%s'", l.Get(2).String())
		return 0
	}))
	protection.RawSetString("__newindex", l.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Attempt to modify a readonly table")
		return 0
	}))
	globals.Metatable = protection
}

func (in *interpreter) library(db *DB) *lua.LTable {
	call := func(raise bool) lua.LGFunction {
		return func(l *lua.LState) int {
			r := in.call(db, l)
			if raise && r.is(Error) {
				l.Error(errorTable(l, r.Text, line(l)), 1)
			}
			l.Push(fromReply(l, r))
			return 1
		}
	}
	t := in.state.NewTable()
	for name, fn := range map[string]lua.LGFunction{
		"call": call(true), "pcall": call(false), "error_reply": errorReply, "status_reply": statusReply,
		"sha1hex": func(l *lua.LState) int {
			if l.GetTop() != 1 {
				l.Error(errorTable(l, "ERR wrong number of arguments", line(l)), 1)
			}
			l.Push(lua.LString(SHA1(lua.LVAsString(l.Get(1)))))
			return 1
		},
		"log":                func(*lua.LState) int { return 0 },
		"replicate_commands": func(l *lua.LState) int { l.Push(lua.LTrue); return 1 },
	} {
		t.RawSetString(name, in.state.NewFunction(fn))
	}
	for level, name := range []string{"LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"} {
		t.RawSetString(name, lua.LNumber(level))
	}
	return t
}

// call runs the command whose words are the arguments of redis.call.
func (in *interpreter) call(db *DB, l *lua.LState) Reply {
	n := l.GetTop()
	if n == 0 {
		return failed("ERR Please specify at least one argument for this redis.call() call")
	}
	in.args = in.args[:0]
	for i := 1; i <= n; i++ {
		switch v := l.Get(i).(type) {
		case lua.LString:
			in.args = append(in.args, string(v))
		case lua.LNumber:
			in.args = append(in.args, formatFloat(float64(v)))
		default:
			return failed("ERR Lua redis lib command arguments must be strings or integers")
		}
	}
	return db.fromScript(in.args)
}

// line returns the line of the script that called the function that runs.
func line(l *lua.LState) int {
	if frame, ok := l.GetStack(1); ok {
		if _, err := l.GetInfo("l", frame, nil); err == nil {
			return frame.CurrentLine
		}
	}
	return 0
}

func errorTable(l *lua.LState, text string, line int) *lua.LTable {
	t := l.NewTable()
	t.RawSetString("err", lua.LString(text))
	if line > 0 {
		t.RawSetString("line", lua.LNumber(line))
	}
	return t
}

// errorText returns the reply to a script that ended with an error.
func (in *interpreter) errorText(err error) string {
	text, at := "", ""
	raised, ok := errors.AsType[*lua.ApiError](err)
	switch {
	case !ok:
		text = "ERR " + err.Error()
	case raised.Object == nil || raised.Object.Type() == lua.LTNil:
		text = "ERR " + raised.Error()
	default:
		if t, ok := raised.Object.(*lua.LTable); ok {
			text, at = t.RawGetString("err").String(), lua.LVAsString(t.RawGetString("line"))
		} else {
			text = "ERR " + raised.Object.String()
			if rest, found := strings.CutPrefix(raised.Object.String(), chunk+":"); found {
				at, _, _ = strings.Cut(rest, ":")
			}
		}
	}
	text = strings.NewReplacer("\r", " ", "\n", " ").Replace(text)
	if at == "" {
		return text + " script: " + in.sha + ", on unknown."
	}
	return text + " script: " + in.sha + ", on @" + chunk + ":" + at + "."
}

func errorReply(l *lua.LState) int {
	text, ok := l.Get(1).(lua.LString)
	if !ok || l.GetTop() != 1 {
		l.Push(errorTable(l, "ERR wrong number or type of arguments", 0))
		return 1
	}
	said := strings.TrimPrefix(string(text), "-")
	if !strings.Contains(said, " ") {
		said = "ERR " + said
	}
	l.Push(errorTable(l, said, 0))
	return 1
}

func statusReply(l *lua.LState) int {
	text, ok := l.Get(1).(lua.LString)
	if !ok || l.GetTop() != 1 {
		l.Push(errorTable(l, "ERR wrong number or type of arguments", 0))
		return 1
	}
	t := l.NewTable()
	t.RawSetString("ok", text)
	l.Push(t)
	return 1
}

// fromReply converts the reply to a command for the script that called it.
func fromReply(l *lua.LState, r Reply) lua.LValue {
	switch r.Kind {
	case Int:
		return lua.LNumber(r.Int)
	case Bulk, Double:
		return lua.LString(r.Text)
	case pairs:
		return fromReply(l, flat(r))
	case Array, Map, Set:
		t := l.CreateTable(len(r.Array), 0)
		for i := range r.Array {
			t.Append(fromReply(l, r.Array[i]))
		}
		return t
	case Status:
		t := l.NewTable()
		t.RawSetString("ok", lua.LString(r.Text))
		return t
	case Error:
		return errorTable(l, r.Text, 0)
	default:
		return lua.LFalse
	}
}

// toReply converts what a script returned.
func toReply(v lua.LValue) Reply {
	switch v := v.(type) {
	case lua.LString:
		return bulk(string(v))
	case lua.LNumber:
		return Reply{Kind: Int, Int: truncated(float64(v))}
	case lua.LBool:
		if v {
			return integer(1)
		}
		return nilReply
	case *lua.LTable:
		if text, ok := v.RawGetString("err").(lua.LString); ok {
			return failed(strings.NewReplacer("\r", " ", "\n", " ").Replace(string(text)))
		}
		if text, ok := v.RawGetString("ok").(lua.LString); ok {
			return Reply{Kind: Status, Text: strings.NewReplacer("\r", " ", "\n", " ").Replace(string(text))}
		}
		list := make([]Reply, 0, v.Len())
		for i := 1; ; i++ {
			e := v.RawGetInt(i)
			if e == lua.LNil {
				return Reply{Kind: Array, Array: list}
			}
			list = append(list, toReply(e))
		}
	default:
		return nilReply
	}
}

// truncated converts as C does on x86.
func truncated(f float64) int64 {
	if math.IsNaN(f) || f >= math.MaxInt64 || f < math.MinInt64 {
		return math.MinInt64
	}
	return int64(f)
}

// toNumber is tonumber of Lua 5.1. That of gopher-lua refuses numbers such as "1e5".
func toNumber(l *lua.LState) int {
	v := l.Get(1) // no value counts as nil: string.match of gopher-lua may return none
	base := l.OptInt(2, 10)
	text, isText := v.(lua.LString)
	if n, ok := v.(lua.LNumber); ok && base == 10 {
		l.Push(n)
		return 1
	}
	if !isText {
		l.Push(lua.LNil)
		return 1
	}
	trimmed := strings.Trim(string(text), " \t\n\v\f\r")
	if base != 10 {
		n, err := strconv.ParseUint(strings.ToLower(trimmed), base, 64)
		if err != nil {
			l.Push(lua.LNil)
		} else {
			l.Push(lua.LNumber(n))
		}
		return 1
	}
	if f, ok := parseFloat(trimmed); ok {
		l.Push(lua.LNumber(f))
	} else if sign := strings.TrimLeft(strings.ToLower(trimmed), "+-"); sign == "nan" {
		l.Push(lua.LNumber(math.NaN()))
	} else {
		l.Push(lua.LNil)
	}
	return 1
}

// toText is tostring of Lua 5.1, which writes numbers with 14 digits.
func toText(l *lua.LState) int {
	v := l.CheckAny(1)
	if n, ok := v.(lua.LNumber); ok {
		l.Push(lua.LString(luaNumber(float64(n))))
		return 1
	}
	l.Push(l.ToStringMeta(v))
	return 1
}

func luaNumber(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e14 || math.IsInf(f, 0) || math.IsNaN(f) {
		return formatFloat(f)
	}
	return formatG(f, 14)
}
