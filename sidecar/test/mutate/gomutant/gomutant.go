// Package gomutant makes the mutants of the conditions of Go source, and one text of the
// source that has all of them: a variable of the running program says which one is active.
package gomutant

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/mutate/mutant"
)

// boundaries are the comparisons that differ in the case of equal operands.
var boundaries = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}

// Of returns the mutants of the source, and the source with all of them. The mutants have
// the ids first, first+1, … in their order.
//
// A condition is that of an if or a for, an expression of a case, or an operand of && or
// || anywhere; one that consists of && or || is its operands. Each is true, and false; a
// comparison by order also exchanges < and <=, > and >=. Negation is not among them: the
// tests that notice both a constant truth and a constant falsehood notice it as well.
//
// The source calls the functions mutateCond and mutateOrder, which the package gets from
// the program that compiles it.
func Of(file, source string, first int) (mutants []mutant.Mutant, changed string, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, source, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return nil, "", err
	}
	m := &mutator{source: source, base: fset.File(f.Pos()).Base(), id: first, done: map[ast.Expr]bool{}}
	ast.Inspect(f, m.visit)
	if m.err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, m.err)
	}
	return mutant.Finish(file, source, m.mutants), m.text(), nil
}

type mutator struct {
	source  string
	base    int
	id      int
	done    map[ast.Expr]bool
	mutants []mutant.Mutant
	edits   []edit
	err     error
}

// edit replaces a part of the source. Of edits at one place, those with a lower order come
// first.
type edit struct {
	from, to int
	text     string
	order    int
}

func (m *mutator) offset(p token.Pos) int { return int(p) - m.base }

func (m *mutator) edit(from, to token.Pos, text string, order int) {
	m.edits = append(m.edits, edit{m.offset(from), m.offset(to), text, order})
}

func (m *mutator) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GenDecl:
		return n.Tok != token.CONST
	case *ast.IfStmt:
		m.condition(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			m.condition(n.Cond)
		}
	case *ast.SwitchStmt:
		m.cases(n)
	case *ast.BinaryExpr:
		if n.Op == token.LAND || n.Op == token.LOR {
			m.condition(n)
		}
	}
	return true
}

// condition notes the mutants of the operands of a condition.
func (m *mutator) condition(e ast.Expr) {
	if m.done[e] {
		return
	}
	m.done[e] = true
	switch e := e.(type) {
	case *ast.ParenExpr:
		m.condition(e.X)
		return
	case *ast.UnaryExpr:
		if inner := ast.Unparen(e.X); e.Op == token.NOT && isLogical(inner) {
			m.condition(inner)
			return
		}
	case *ast.BinaryExpr:
		if isLogical(e) {
			m.condition(e.X)
			m.condition(e.Y)
			return
		}
	}
	m.operand(e)
}

func isLogical(e ast.Expr) bool {
	b, ok := e.(*ast.BinaryExpr)
	return ok && (b.Op == token.LAND || b.Op == token.LOR)
}

func (m *mutator) operand(e ast.Expr) {
	depth := len(m.edits)
	m.wrap(e, fmt.Sprintf("mutateCond(%d, ", m.id), ")", depth)
	m.note(e.Pos(), e.End(), "true")
	m.note(e.Pos(), e.End(), "false")
	b, ok := e.(*ast.BinaryExpr)
	if !ok || boundaries[b.Op] == "" {
		return
	}
	m.wrap(e, fmt.Sprintf("mutateOrder(%d, %q, ", m.id, b.Op), ")", depth+1)
	m.edit(b.OpPos, b.OpPos+token.Pos(len(b.Op.String())), ",", 0)
	m.note(b.OpPos, b.OpPos+token.Pos(len(b.Op.String())), boundaries[b.Op])
}

// wrap puts text around an expression. Of expressions that begin or end at one place, one
// with a larger depth is inside.
func (m *mutator) wrap(e ast.Expr, before, after string, depth int) {
	m.edit(e.Pos(), e.Pos(), before, 1+depth)
	m.edit(e.End(), e.End(), after, -1-depth)
}

func (m *mutator) note(from, to token.Pos, text string) {
	m.mutants = append(m.mutants, mutant.Mutant{Start: m.offset(from), End: m.offset(to), New: text})
	m.id++
}

// cases notes the mutants of the cases of a switch. A switch over a value becomes one over
// comparisons.
func (m *mutator) cases(s *ast.SwitchStmt) {
	if s.Tag != nil {
		if s.Init != nil {
			m.err = fmt.Errorf("offset %d: a switch with a statement and a value is not supported", m.offset(s.Switch))
			return
		}
		m.edit(s.Tag.Pos(), s.Tag.Pos(), "mutateTag := ", 0)
		m.edit(s.Tag.End(), s.Tag.End(), ";", 0)
	}
	for _, c := range s.Body.List {
		for _, e := range c.(*ast.CaseClause).List {
			if s.Tag == nil {
				m.condition(e)
				continue
			}
			m.done[e] = true
			m.wrap(e, fmt.Sprintf("mutateCond(%d, mutateTag == ", m.id), ")", len(m.edits))
			m.note(e.Pos(), e.End(), "true")
			m.note(e.Pos(), e.End(), "false")
		}
	}
}

// text returns the source with all edits.
func (m *mutator) text() string {
	slices.SortStableFunc(m.edits, func(a, b edit) int {
		return cmp.Or(a.from-b.from, a.order-b.order)
	})
	var out strings.Builder
	at := 0
	for _, e := range m.edits {
		out.WriteString(m.source[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.WriteString(m.source[at:])
	return out.String()
}
