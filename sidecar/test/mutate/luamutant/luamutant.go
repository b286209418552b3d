// Package luamutant makes the mutants of a Lua script: each statement removed, each
// condition forced, each operator and each constant changed.
package luamutant

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/graflow/graflow-sidecar/sidecar/test/mutate/mutant"
)

// Of returns the mutants of a script, in the order of the text. file is its path.
//
//   - Statements: a call, an assignment, a return, a break and a loop are removed; a local
//     variable loses its value.
//   - Conditions of if and elseif are true, and false; those of while and until are false
//     and true, which both end the loop.
//   - `a and b` and `a or b` become a, b, and the other operator.
//   - Operators: < and <=, > and >=, == and ~=, + and -, * and / take each other's place;
//     not and unary minus are removed; math.min and math.max take each other's place.
//   - Constants: a number grows by one; a string gets another character; true and false
//     take each other's place.
func Of(file, script string) ([]mutant.Mutant, error) {
	all, err := tokens(script)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p := &parser{script: script, tokens: all}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	slices.SortStableFunc(p.mutants, func(a, b mutant.Mutant) int { return a.Start - b.Start })
	return mutant.Finish(file, script, p.mutants), nil
}

// parser walks through the grammar of Lua 5.1 and notes the mutants on its way.
type parser struct {
	script  string
	tokens  []token
	at      int
	mutants []mutant.Mutant
}

// syntaxError ends the walk.
type syntaxError struct{ error }

func (p *parser) parse() (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(syntaxError)
			if !ok {
				panic(r)
			}
			err = e.error
		}
	}()
	p.block()
	if p.peek().kind != end {
		p.fail("the end")
	}
	return nil
}

func (p *parser) fail(wanted string) {
	t := p.peek()
	panic(syntaxError{fmt.Errorf("offset %d: %q in place of %s", t.from, t.text, wanted)})
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != end {
		p.at++
	}
	return t
}

// is reports whether the next token is this symbol or keyword.
func (p *parser) is(what string) bool {
	t := p.peek()
	return (t.kind == symbol || t.kind == keyword) && t.text == what
}

func (p *parser) accept(what string) bool {
	if p.is(what) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(what string) {
	if !p.accept(what) {
		p.fail(what)
	}
}

// last returns the offset behind the last token that was read.
func (p *parser) last() int { return p.tokens[p.at-1].to }

func (p *parser) change(from, to int, text string) {
	p.mutants = append(p.mutants, mutant.Mutant{Start: from, End: to, New: text})
}

func (p *parser) block() {
	for {
		switch t := p.peek(); {
		case t.kind == end, p.is("end"), p.is("else"), p.is("elseif"), p.is("until"):
			return
		case p.accept(";"):
		default:
			p.statement()
		}
	}
}

func (p *parser) statement() {
	from := p.peek().from
	switch {
	case p.accept("if"):
		p.condition("true", "false")
		p.expect("then")
		p.block()
		for p.accept("elseif") {
			p.condition("true", "false")
			p.expect("then")
			p.block()
		}
		if p.accept("else") {
			p.block()
		}
		p.expect("end")
	case p.accept("while"):
		p.condition("false")
		p.expect("do")
		p.block()
		p.expect("end")
	case p.accept("repeat"):
		p.block()
		p.expect("until")
		p.condition("true")
	case p.accept("do"):
		p.block()
		p.expect("end")
	case p.accept("for"):
		p.names()
		if p.accept("=") {
			p.expressions()
		} else {
			p.expect("in")
			p.expressions()
		}
		p.expect("do")
		p.block()
		p.expect("end")
		p.change(from, p.last(), "")
	case p.accept("function"):
		p.next()
		for p.accept(".") || p.accept(":") {
			p.next()
		}
		p.function()
	case p.accept("local"):
		p.local()
	case p.accept("return"):
		if !p.is("end") && !p.is("else") && !p.is("elseif") && !p.is("until") && p.peek().kind != end {
			p.expressions()
		}
		p.change(from, p.last(), "")
	case p.accept("break"):
		p.change(from, p.last(), "")
	default:
		p.suffixed()
		if p.is("=") || p.is(",") {
			for p.accept(",") {
				p.suffixed()
			}
			p.expect("=")
			p.expressions()
		}
		p.change(from, p.last(), "")
	}
}

func (p *parser) local() {
	if p.accept("function") {
		p.next()
		p.function()
		return
	}
	p.names()
	before := p.last()
	if p.accept("=") {
		p.expressions()
		p.change(before, p.last(), "")
	}
}

func (p *parser) names() {
	for {
		if p.next().kind != name {
			p.fail("a name")
		}
		if !p.accept(",") {
			return
		}
	}
}

// function reads parameters and body.
func (p *parser) function() {
	p.expect("(")
	if !p.accept(")") {
		for {
			if t := p.next(); t.kind != name && t.text != "..." {
				p.fail("a parameter")
			}
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	p.block()
	p.expect("end")
}

// condition reads the condition of a statement. It becomes each of the values.
func (p *parser) condition(values ...string) {
	from := p.peek().from
	p.expression(0)
	for _, v := range values {
		p.change(from, p.last(), v)
	}
}

func (p *parser) expressions() {
	p.expression(0)
	for p.accept(",") {
		p.expression(0)
	}
}

// priorities are the left and the right one of the binary operators.
var priorities = map[string][2]int{
	"or": {1, 1}, "and": {2, 2},
	"<": {3, 3}, ">": {3, 3}, "<=": {3, 3}, ">=": {3, 3}, "~=": {3, 3}, "==": {3, 3},
	"..": {5, 4}, "+": {6, 6}, "-": {6, 6}, "*": {7, 7}, "/": {7, 7}, "%": {7, 7}, "^": {10, 9},
}

const unary = 8

// replacements are the operators that take another's place.
var replacements = map[string]string{
	"or": "and", "and": "or", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "~=", "~=": "==",
	"+": "-", "-": "+", "*": "/", "/": "*", "%": "*",
}

// expression reads an expression whose operators bind more tightly than the limit.
func (p *parser) expression(limit int) {
	from := p.peek().from
	switch t := p.peek(); {
	case p.accept("not"), p.accept("-"):
		p.change(t.from, t.to, " ")
		p.expression(unary)
	case p.accept("#"):
		p.expression(unary)
	default:
		p.simple()
	}
	for {
		op := p.peek()
		priority, ok := priorities[op.text]
		if !ok || op.kind != symbol && op.kind != keyword || priority[0] <= limit {
			return
		}
		left := p.script[from:p.last()]
		p.next()
		right := p.peek().from
		p.expression(priority[1])
		if new, ok := replacements[op.text]; ok {
			p.change(op.from, op.to, new)
		}
		if op.text == "and" || op.text == "or" {
			p.change(from, p.last(), left)
			p.change(from, p.last(), p.script[right:p.last()])
		}
	}
}

func (p *parser) simple() {
	switch t := p.peek(); {
	case t.kind == number:
		p.next()
		p.change(t.from, t.to, p.increment(t.text))
	case t.kind == text:
		p.string()
	case p.accept("true"):
		p.change(t.from, t.to, "false")
	case p.accept("false"):
		p.change(t.from, t.to, "true")
	case p.accept("nil"), p.accept("..."):
	case p.accept("function"):
		p.function()
	case p.is("{"):
		p.table()
	default:
		p.suffixed()
	}
}

// increment returns a number that is larger by one.
func (p *parser) increment(number string) string {
	if n, err := strconv.ParseInt(number, 0, 64); err == nil {
		return strconv.FormatInt(n+1, 10)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		p.fail("a number")
	}
	return strconv.FormatFloat(n+1, 'f', -1, 64)
}

func (p *parser) string() {
	t := p.next()
	quote := t.text[len(t.text)-1:]
	p.change(t.from, t.to, t.text[:len(t.text)-1]+"~"+quote)
}

func (p *parser) table() {
	p.expect("{")
	for !p.accept("}") {
		switch {
		case p.accept("["):
			p.expression(0)
			p.expect("]")
			p.expect("=")
		case p.peek().kind == name && p.tokens[p.at+1].text == "=":
			p.next()
			p.next()
		}
		p.expression(0)
		if !p.accept(",") && !p.accept(";") && !p.is("}") {
			p.fail("}")
		}
	}
}

// suffixed reads a name or an expression in brackets, with indexes and calls behind it.
func (p *parser) suffixed() {
	switch {
	case p.accept("("):
		p.expression(0)
		p.expect(")")
	case p.peek().kind == name:
		p.next()
	default:
		p.fail("an expression")
	}
	for {
		switch {
		case p.accept("."), p.accept(":"):
			t := p.next()
			switch {
			case t.kind != name:
				p.fail("a name")
			case t.text == "min":
				p.change(t.from, t.to, "max")
			case t.text == "max":
				p.change(t.from, t.to, "min")
			}
		case p.accept("["):
			p.expression(0)
			p.expect("]")
		case p.accept("("):
			if !p.accept(")") {
				p.expressions()
				p.expect(")")
			}
		case p.peek().kind == text:
			p.string()
		case p.is("{"):
			p.table()
		default:
			return
		}
	}
}
