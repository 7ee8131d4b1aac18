package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// mutant is one mistake.
type mutant struct {
	id            int
	file, fn      string
	line, nth     int // nth: of the same mistakes in fn
	before, after string
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s: %s -> %s", m.file, m.line, m.fn, m.before, m.after)
}

// key names a mistake in a way that survives a change elsewhere in the file.
func (m mutant) key() string {
	k := fmt.Sprintf("%s %s: %s -> %s", m.file, m.fn, m.before, m.after)
	if m.nth > 1 {
		k += fmt.Sprintf(" (%d)", m.nth)
	}
	return k
}

// mutation is a package with all its mistakes in it.
type mutation struct {
	mutants []mutant
	files   map[string][]byte
}

// edit replaces a piece of a source; an empty one is an insertion.
type edit struct {
	from, to int
	text     string
	end      bool // closes what began before: goes before what opens here
	seq      int
}

// maker makes the mistakes of one file.
type maker struct {
	fset  *token.FileSet
	info  *types.Info
	pkg   *types.Package
	src   []byte
	file  string
	fn    string
	edits []edit
	out   *mutation
	seen  map[string]int
}

func mutate(dir string, files []string) (*mutation, error) {
	fset := token.NewFileSet()
	pkgs, err := parser.ParseDir(fset, dir, func(i fs.FileInfo) bool { return !strings.HasSuffix(i.Name(), "_test.go") }, parser.SkipObjectResolution) //nolint:staticcheck // one folder without build tags
	if err != nil {
		return nil, fmt.Errorf("read the package: %w", err)
	}
	if len(pkgs) != 1 {
		return nil, fmt.Errorf("%s holds %d packages", dir, len(pkgs))
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Selections: map[*ast.SelectorExpr]*types.Selection{}, Uses: map[*ast.Ident]types.Object{}}
	out := &mutation{files: map[string][]byte{}}
	for name, p := range pkgs {
		var all []*ast.File
		for _, f := range p.Files {
			all = append(all, f)
		}
		conf := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
		pkg, err := conf.Check(dir, fset, all, info)
		if err != nil {
			return nil, fmt.Errorf("type-check the package: %w", err)
		}
		for _, file := range files {
			f := p.Files[filepath.Join(dir, file)]
			if f == nil {
				return nil, fmt.Errorf("there is no %s in %s", file, dir)
			}
			src, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return nil, fmt.Errorf("read the package: %w", err)
			}
			m := &maker{fset: fset, info: info, pkg: pkg, src: src, file: file, out: out, seen: map[string]int{}}
			m.whole(f)
			if out.files[file], err = m.apply(); err != nil {
				return nil, err
			}
		}
		out.files["zz_mutants.go"] = []byte(fmt.Sprintf(switches, name, variable))
	}
	return out, nil
}

// switches is the file that turns a mistake on.
const switches = `package %s

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"time"
)

var mutantOn, _ = strconv.Atoi(os.Getenv(%q))

type mutantNumber interface {
	~int | ~int64 | ~uint64 | ~float64
}

func mutOn(id int) bool   { return mutantOn == id }
func mutKeep(id int) bool { return mutantOn != id }

func mutPlus[T mutantNumber](id int, v T) T {
	if mutOn(id) {
		return v + 1
	}
	return v
}

func mutCmp[T cmp.Ordered](id int, op string, a, b T) bool {
	switch op {
	case "<":
		return a < b || (mutOn(id) && a == b)
	case "<=":
		return a < b || (!mutOn(id) && a == b)
	case ">":
		return a > b || (mutOn(id) && a == b)
	}
	return a > b || (!mutOn(id) && a == b)
}

func mutBefore(id int, a, b time.Time) bool { return a.Before(b) || (mutOn(id) && a.Equal(b)) }
func mutAfter(id int, a, b time.Time) bool  { return a.After(b) || (mutOn(id) && a.Equal(b)) }

// mutAnd: id is "or", id+1 forgets a, id+2 forgets b.
func mutAnd(id int, a bool, b func() bool) bool {
	switch {
	case mutOn(id):
		return a || b()
	case mutOn(id + 1):
		return b()
	case mutOn(id + 2):
		return a
	}
	return a && b()
}

func mutOr(id int, a bool, b func() bool) bool {
	switch {
	case mutOn(id):
		return a && b()
	case mutOn(id + 1):
		return b()
	case mutOn(id + 2):
		return a
	}
	return a || b()
}

func mutArith[T mutantNumber](id int, op string, a, b T) T {
	on := mutOn(id)
	switch {
	case (op == "+") != on && (op == "+" || op == "-"):
		return a + b
	case op == "+" || op == "-":
		return a - b
	case (op == "*") != on:
		return a * b
	}
	return a / b
}

func mutMin[T cmp.Ordered](id int, xs ...T) T {
	if mutOn(id) {
		return slices.Max(xs)
	}
	return slices.Min(xs)
}

func mutMax[T cmp.Ordered](id int, xs ...T) T {
	if mutOn(id) {
		return slices.Min(xs)
	}
	return slices.Max(xs)
}
`

func (m *maker) off(p token.Pos) int { return m.fset.Position(p).Offset }

func (m *maker) text(n ast.Node) string {
	return strings.Join(strings.Fields(string(m.src[m.off(n.Pos()):m.off(n.End())])), " ")
}

// add notes a mistake and returns its number.
func (m *maker) add(n ast.Node, before, after string) int {
	k := m.fn + "|" + before + "|" + after
	m.seen[k]++
	x := mutant{
		id: len(m.out.mutants) + 1, file: m.file, fn: m.fn, line: m.fset.Position(n.Pos()).Line, nth: m.seen[k], before: before, after: after,
	}
	m.out.mutants = append(m.out.mutants, x)
	return x.id
}

func (m *maker) wrap(n ast.Node, open, closing string) {
	seq := len(m.edits)
	a, b := m.off(n.Pos()), m.off(n.End())
	m.edits = append(m.edits, edit{from: a, to: a, text: open, seq: seq}, edit{from: b, to: b, text: closing, end: true, seq: seq})
}

func (m *maker) replace(from, to int, text string) {
	m.edits = append(m.edits, edit{from: from, to: to, text: text, seq: len(m.edits)})
}

func (m *maker) apply() ([]byte, error) {
	sort.SliceStable(m.edits, func(i, j int) bool {
		a, b := m.edits[i], m.edits[j]
		switch {
		case a.from != b.from:
			return a.from < b.from
		case a.end != b.end:
			return a.end
		case a.end:
			return a.seq > b.seq
		}
		return a.seq < b.seq
	})
	var out []byte
	at := 0
	for _, e := range m.edits {
		if e.from < at {
			return nil, errors.New(m.file + ": two mistakes in one place")
		}
		out = append(append(out, m.src[at:e.from]...), e.text...)
		at = e.to
	}
	return append(out, m.src[at:]...), nil
}

func (m *maker) whole(f *ast.File) {
	for _, d := range f.Decls {
		fd, ok := d.(*ast.FuncDecl)
		if !ok || fd.Body == nil {
			continue
		}
		m.fn = fd.Name.Name
		if fd.Recv != nil {
			m.fn = strings.TrimPrefix(m.text(fd.Recv.List[0].Type), "*") + "." + m.fn
		}
		m.block(fd.Body.List, false)
	}
}

// block goes through statements; open says that what comes after a return in it
// is reached if the return is left out.
func (m *maker) block(list []ast.Stmt, open bool) {
	for _, s := range list {
		m.stmt(s, open)
	}
}

func (m *maker) leaveOut(s ast.Stmt) {
	m.wrap(s, fmt.Sprintf("if mutKeep(%d) { ", m.add(s, m.text(s), "left out")), " }")
}

func (m *maker) stmt(s ast.Stmt, open bool) {
	switch s := s.(type) {
	case *ast.ExprStmt:
		m.leaveOut(s)
		if call, ok := s.X.(*ast.CallExpr); ok {
			m.call(call)
		}
	case *ast.AssignStmt:
		if s.Tok != token.DEFINE {
			m.leaveOut(s)
		}
		m.exprs(s.Rhs)
	case *ast.IncDecStmt:
		m.leaveOut(s)
	case *ast.BranchStmt:
		m.leaveOut(s)
	case *ast.ReturnStmt:
		if open {
			m.leaveOut(s)
		}
		m.exprs(s.Results)
	case *ast.DeclStmt:
		if g, ok := s.Decl.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, sp := range g.Specs {
				if v, ok := sp.(*ast.ValueSpec); ok {
					m.exprs(v.Values)
				}
			}
		}
	case *ast.BlockStmt:
		m.block(s.List, false)
	case *ast.IfStmt:
		m.simple(s.Init)
		m.expr(s.Cond)
		m.block(s.Body.List, s.Else == nil)
		if s.Else != nil {
			m.stmt(s.Else, false)
		}
	case *ast.ForStmt:
		m.simple(s.Init)
		m.expr(s.Cond)
		m.block(s.Body.List, true)
	case *ast.RangeStmt:
		m.expr(s.X)
		m.block(s.Body.List, true)
	case *ast.SwitchStmt:
		m.simple(s.Init)
		hasDefault := slices.ContainsFunc(s.Body.List, func(c ast.Stmt) bool { return c.(*ast.CaseClause).List == nil })
		for _, c := range s.Body.List {
			cc := c.(*ast.CaseClause)
			if s.Tag == nil {
				m.exprs(cc.List)
			}
			m.block(cc.Body, !hasDefault)
		}
	}
}

// simple is the first part of an if, a for or a switch.
func (m *maker) simple(s ast.Stmt) {
	if a, ok := s.(*ast.AssignStmt); ok {
		m.exprs(a.Rhs)
	}
}

func (m *maker) exprs(list []ast.Expr) {
	for _, e := range list {
		m.expr(e)
	}
}

func (m *maker) basic(e ast.Expr) (*types.Basic, types.TypeAndValue) {
	tv, ok := m.info.Types[e]
	if !ok || tv.Type == nil || tv.IsType() {
		return &types.Basic{}, tv
	}
	b, ok := tv.Type.Underlying().(*types.Basic)
	if !ok {
		return &types.Basic{}, tv
	}
	return b, tv
}

// expr goes through an expression from the outside.
func (m *maker) expr(e ast.Expr) {
	if e == nil {
		return
	}
	b, tv := m.basic(e)
	if tv.Value != nil {
		m.constant(e, b, tv)
		return
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		m.expr(e.X)
	case *ast.UnaryExpr:
		m.expr(e.X)
	case *ast.BinaryExpr:
		m.binary(e, b)
	case *ast.CallExpr:
		if b.Kind() == types.Bool {
			m.turn(e)
		}
		m.call(e)
	case *ast.Ident, *ast.SelectorExpr, *ast.IndexExpr:
		if b.Kind() == types.Bool && tv.Addressable() || b.Kind() == types.Bool && tv.IsValue() {
			m.turn(e)
		}
		if x, ok := e.(*ast.IndexExpr); ok {
			m.expr(x.Index)
		}
	case *ast.CompositeLit:
		for _, el := range e.Elts {
			if kv, ok := el.(*ast.KeyValueExpr); ok {
				m.expr(kv.Value)
			} else {
				m.expr(el)
			}
		}
	case *ast.FuncLit:
		m.block(e.Body.List, false)
	case *ast.SliceExpr:
		m.expr(e.Low)
		m.expr(e.High)
	case *ast.StarExpr:
		m.expr(e.X)
	}
}

// turn says the opposite.
func (m *maker) turn(e ast.Expr) {
	t := m.text(e)
	m.wrap(e, fmt.Sprintf("(mutOn(%d) != (", m.add(e, t, "!("+t+")")), "))")
}

func (m *maker) constant(e ast.Expr, b *types.Basic, tv types.TypeAndValue) {
	t := m.text(e)
	switch {
	case tv.Value.Kind() == constant.Bool:
		m.wrap(e, fmt.Sprintf("(mutOn(%d) != (", m.add(e, t, "!"+t)), "))")
	case b.Info()&types.IsNumeric != 0 && b.Info()&types.IsUntyped == 0 && b.Kind() != types.Uint8 && b.Kind() != types.Int32:
		name := types.TypeString(tv.Type, func(p *types.Package) string {
			if p == m.pkg {
				return ""
			}
			return p.Name()
		})
		m.wrap(e, fmt.Sprintf("mutPlus[%s](%d, ", name, m.add(e, t, t+" + 1")), ")")
	}
}

var atBound = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}

func (m *maker) binary(e *ast.BinaryExpr, b *types.Basic) {
	t := m.text(e)
	with := func(op string) string { return m.text(e.X) + " " + op + " " + m.text(e.Y) }
	from := m.off(e.OpPos)
	to := from + len(e.Op.String())
	switch e.Op { //nolint:exhaustive // the other operators compare or compute nothing that is turned
	case token.EQL, token.NEQ:
		m.wrap(e, fmt.Sprintf("(mutOn(%d) != (", m.add(e, t, "!("+t+")")), "))")
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		m.wrap(e, fmt.Sprintf("(mutOn(%d) != mutCmp(%d, %q, ", m.add(e, t, "!("+t+")"), m.add(e, t, with(atBound[e.Op])), e.Op), "))")
		m.replace(from, to, ",")
	case token.LAND, token.LOR:
		name, other := "mutAnd", "||"
		if e.Op == token.LOR {
			name, other = "mutOr", "&&"
		}
		id := m.add(e, t, with(other))
		m.add(e, t, m.text(e.Y))
		m.add(e, t, m.text(e.X))
		m.wrap(e, fmt.Sprintf("%s(%d, ", name, id), " })")
		m.replace(from, to, ", func() bool { return")
	case token.ADD, token.SUB, token.MUL, token.QUO:
		if b.Info()&types.IsNumeric == 0 {
			break
		}
		other := map[token.Token]string{token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*"}[e.Op]
		m.wrap(e, fmt.Sprintf("mutArith(%d, %q, ", m.add(e, t, with(other)), e.Op), ")")
		m.replace(from, to, ",")
	}
	m.expr(e.X)
	m.expr(e.Y)
}

func (m *maker) call(e *ast.CallExpr) {
	switch f := e.Fun.(type) {
	case *ast.Ident:
		if _, builtin := m.info.Uses[f].(*types.Builtin); builtin && (f.Name == "min" || f.Name == "max") {
			other := map[string]string{"min": "max", "max": "min"}[f.Name]
			t := m.text(e)
			id := m.add(e, t, other+strings.TrimPrefix(t, f.Name))
			m.replace(m.off(f.Pos()), m.off(e.Lparen)+1, fmt.Sprintf("mut%s(%d, ", strings.ToUpper(f.Name[:1])+f.Name[1:], id))
		}
	case *ast.SelectorExpr:
		if sel := m.info.Selections[f]; sel != nil && sel.Recv().String() == "time.Time" && (f.Sel.Name == "Before" || f.Sel.Name == "After") {
			t := m.text(e)
			after := fmt.Sprintf("%s %s or at %s", m.text(f.X), strings.ToLower(f.Sel.Name), m.text(e.Args[0]))
			m.wrap(e, fmt.Sprintf("mut%s(%d, ", f.Sel.Name, m.add(e, t, after)), "")
			m.replace(m.off(f.X.End()), m.off(e.Lparen)+1, ", ")
		}
		m.expr(f.X)
	}
	m.exprs(e.Args)
}
