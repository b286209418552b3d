package protocol

import "strings"

// objectScan reads what it takes to tell what an object was meant as, byte by
// byte and however its text is cut: the names and a few values of its members,
// and of the members of its result and its error. It is forgiving about what
// stands in values, and takes single quotes for double ones.
//
// A jsonscan.Scanner cannot serve it: that needs the whole text at once and stops at
// the first mistake, where this reads objects that are spread over lines, of which no
// more than a few bytes are kept.
type objectScan struct {
	first  bool   // nothing that can be seen stands in front of it on its first line
	line   bool   // that line goes on
	before string // what is wrong with its place on it
	told   bool   // it was reported

	id                      []byte
	method                  string
	version, result, errors bool // it has such a member
	outcome                 bool // see Misframed
	single, upper           bool // it has strings in single quotes, names in upper case
	twoIDs                  bool

	depth   int        // containers that are open
	state   [3]expects // of the object itself and of its result or error, by depth
	name    [3]string  // of the member that is being read there
	inside  bool       // the container at depth 2 is an object whose members count
	quote   byte       // within a string: the quote that ends it
	escaped bool       // the next byte of the string is escaped
	token   []byte     // the beginning of the string or the bare word that is being read
}

// expects is what may come next in an object.
type expects uint8

const (
	expectsName expects = iota
	expectsColon
	expectsValue
	expectsWord // the rest of a bare word: a number, true, NaN
	expectsComma
)

// scanState is how far an object has come.
type scanState uint8

const (
	scanOpen   scanState = iota // more is to come
	scanClosed                  // it has ended
	scanBroken                  // it is no object
)

// maxToken is how much of a string or word is kept: as much as an id may have.
const maxToken = MaxIDBytes + 2

// isMessage reports whether enough is known to call it a message (P59): it says
// so itself, or has the form of one and begins its line.
func (o *objectScan) isMessage() bool {
	switch {
	case o.twoIDs:
		return false
	case o.method != "":
		return o.id != nil && (o.version || o.first)
	case o.version:
		return o.result || o.errors
	default:
		return o.first && o.id != nil && o.outcome
	}
}

// feed reads on. n is how many bytes of b were read: all of them unless the object
// ends or breaks before.
func (o *objectScan) feed(b []byte) (n int, state scanState) {
	for i, c := range b {
		if o.quote != 0 {
			o.inString(c)
			continue
		}
		if !o.counts() {
			o.passOver(c)
			continue
		}
		if o.level(c) {
			continue
		}
		if o.depth == 0 {
			return i + 1, scanClosed
		}
		return i + 1, scanBroken
	}
	return len(b), scanOpen
}

// counts reports whether the members of the innermost container mean something.
func (o *objectScan) counts() bool { return o.depth < 2 || o.depth == 2 && o.inside }

// inString reads a byte of a string.
func (o *objectScan) inString(c byte) {
	switch {
	case o.escaped:
		o.escaped = false
	case c == '\\':
		o.escaped = true
	case c == o.quote:
		o.quote = 0
		if o.counts() {
			o.ended(true)
		}
		return
	}
	o.keep(c)
}

func (o *objectScan) keep(c byte) {
	if len(o.token) < maxToken {
		o.token = append(o.token, c)
	}
}

// passOver reads a byte of a container whose members mean nothing.
func (o *objectScan) passOver(c byte) {
	switch c {
	case '"', '\'':
		if c == '"' || o.single {
			o.quote, o.token = c, o.token[:0]
		}
	case '{', '[':
		o.depth++
	case '}', ']':
		o.depth--
		if o.counts() {
			o.state[o.depth] = expectsComma
		}
	}
}

// level reads a byte between the tokens of an object whose members count. It is
// false at the end of the whole object, where the depth is 0, and where it breaks.
func (o *objectScan) level(c byte) bool {
	if o.depth == 0 { // its first byte
		o.depth = 1
		return c == '{'
	}
	state := &o.state[o.depth]
	if *state == expectsWord {
		if isWord(c) {
			o.keep(c)
			return true
		}
		o.ended(false)
	}
	switch c {
	case ' ', '\t', '\r', '\n':
		return true
	case '"', '\'':
		if *state != expectsName && *state != expectsValue {
			return false
		}
		o.single = o.single || c == '\''
		o.quote, o.token = c, o.token[:0]
		return true
	case ':':
		ok := *state == expectsColon
		*state = expectsValue
		return ok
	case ',':
		ok := *state == expectsComma
		*state = expectsName
		return ok
	case '}':
		if *state != expectsComma && *state != expectsName {
			return false
		}
		o.depth--
		if o.depth == 1 {
			o.state[1] = expectsComma
		}
		return o.depth > 0
	case '{', '[':
		ok := *state == expectsValue
		o.began(c)
		return ok
	default:
		if *state != expectsValue || !isWord(c) {
			return false
		}
		*state = expectsWord
		o.token = append(o.token[:0], c)
		return true
	}
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.' || c == '_'
}

// began notes a container that is the value of a member.
func (o *objectScan) began(c byte) {
	o.depth++
	if o.depth != 2 {
		return
	}
	name := o.name[1]
	o.inside = c == '{' && (name == "result" || name == "error")
	o.state[2] = expectsName
	o.member(name)
}

// member notes that the object itself has a member.
func (o *objectScan) member(name string) {
	switch name {
	case "result":
		o.result = true
	case "error":
		o.errors = true
	}
}

// ended takes the string or the word that has just ended.
func (o *objectScan) ended(isString bool) {
	state := &o.state[o.depth]
	if *state == expectsName {
		*state = expectsColon
		name := string(o.token)
		if lower := strings.ToLower(name); lower != name && o.depth == 1 && isOurs(lower) {
			o.upper, name = true, lower
		}
		o.name[o.depth] = strings.ToLower(name)
		return
	}
	*state = expectsComma
	switch o.depth {
	case 1:
		o.value(o.name[1], isString)
	case 2:
		switch o.name[1] + "." + o.name[2] {
		case "result.status":
			status := strings.ToLower(string(o.token))
			o.outcome = o.outcome || isString && (status == StatusSucceeded || status == StatusFailed)
		case "error.code":
			o.outcome = o.outcome || !isString && isReserved(string(o.token))
		}
	}
}

// value takes a scalar that is the value of a member of the object itself.
func (o *objectScan) value(name string, isString bool) {
	switch name {
	case "jsonrpc":
		o.version = true
	case "method":
		if isString {
			o.method = string(o.token)
		}
	case "id":
		id := string(o.token)
		if isString {
			id = `"` + id + `"`
		}
		switch {
		case o.id == nil && id != "null":
			o.id = []byte(id)
		case string(o.id) != id:
			o.twoIDs = true
		}
	case "result":
		o.result = true
	case "error":
		o.errors = o.errors || string(o.token) != "null" && string(o.token) != "None"
	}
}

// isOurs reports whether a message may have a member of that name.
func isOurs(name string) bool {
	switch name {
	case "jsonrpc", "id", "method", "params", "result", "error":
		return true
	}
	return false
}

// isReserved reports whether a code is one that JSON-RPC or this protocol gives to
// an error: those of other errors, which users print, are not negative or small.
func isReserved(code string) bool {
	return len(code) == len("-32000") && strings.HasPrefix(code, "-32")
}
