package pulse_test

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is the Go source of one package, without its tests.
type source struct {
	path  string // inside the module, "." for root
	fset  *token.FileSet
	files []*ast.File
}

// check returns how a package breaks the rules. requires are the modules go.mod names.
func (s *source) check(requires []string) []string {
	var problems []string
	complain := func(at ast.Node, format string, args ...any) {
		p := s.fset.Position(at.Pos())
		problems = append(problems, fmt.Sprintf("%s:%d: ", p.Filename, p.Line)+fmt.Sprintf(format, args...))
	}
	if !slices.ContainsFunc(s.files, func(f *ast.File) bool { return f.Doc != nil }) {
		complain(s.files[0], "package %s has no package comment", s.files[0].Name)
	}
	s.checkImports(requires, complain)
	for _, f := range s.files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					complain(d, "func init: do it where it is needed, when it is needed")
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					s.checkVars(d, complain)
				}
			}
		}
	}
	return problems
}

type complainer func(at ast.Node, format string, args ...any)

func (s *source) checkImports(requires []string, complain complainer) {
	own, ok := floorOf(s.path)
	if !ok {
		complain(s.files[0], "package %s is on no floor: give it one in imports_test.go", s.path)
		return
	}
	used := map[string]bool{}
	for _, f := range s.files {
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			first, _, _ := strings.Cut(imported, "/")
			inside, isOurs := strings.CutPrefix(imported+"/", module+"/")
			inside = strings.TrimSuffix(inside, "/")
			switch {
			case imported == "testing" || strings.HasPrefix(imported, "testing/"):
				if !own.testing {
					complain(spec, "%s imports %s: only suites and helpers for tests do", s.path, imported)
				}
			case isOurs:
				s.checkInside(own, inside, spec, complain)
			case !strings.Contains(first, "."): // the standard library
			case imported == "github.com/google/uuid":
			default:
				used[moduleOf(imported, requires)] = true
				if own.modules >= 0 && len(used) > own.modules {
					complain(spec, "%s imports %s: its floor allows %d modules beside google/uuid", s.path, imported, own.modules)
				}
			}
		}
	}
}

// checkInside checks the import of a package of this module.
func (s *source) checkInside(own floor, inside string, spec *ast.ImportSpec, complain complainer) {
	if inside == "" {
		inside = "."
	}
	other, ok := floorOf(inside)
	switch {
	case !ok:
		complain(spec, "%s imports %s, which is on no floor: give it one in imports_test.go", s.path, inside)
	case other.level >= own.level:
		complain(spec, "%s (floor %d) imports %s (floor %d): only lower floors may be imported", s.path, own.level, inside, other.level)
	case other.testing && !own.testing:
		complain(spec, "%s imports %s, which is for tests", s.path, inside)
	case own.only != nil && !slices.Contains(own.only, inside):
		complain(spec, "%s imports %s: of this module it may import only %q", s.path, inside, own.only)
	}
}

// moduleOf finds the module a package is in.
func moduleOf(imported string, requires []string) string {
	longest := ""
	for _, m := range requires {
		if len(m) > len(longest) && strings.HasPrefix(imported+"/", m+"/") {
			longest = m
		}
	}
	if longest == "" {
		return imported
	}
	return longest
}

// immutable are functions whose value a package variable may hold, because nothing can change it.
var immutable = []string{
	"errors.New", "fmt.Errorf", "regexp.MustCompile", "template.Must", "strings.NewReplacer", "time.Date", "uuid.MustParse", "sync.OnceValue", "sync.OnceValues",
}

// checkVars refuses package variables that can change. Allowed are assertions (_), embedded files, the values of the
// functions above, unexported pools, from which nobody can tell what they get, and unexported tables that nothing in the package writes to.
func (s *source) checkVars(d *ast.GenDecl, complain complainer) {
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		if selector(v.Type) == "embed.FS" {
			continue
		}
		for i, name := range v.Names {
			switch {
			case name.Name == "_":
			case len(v.Values) != len(v.Names):
				complain(name, "package variable %s has no value of its own: it is there to be changed", name)
			case isCall(v.Values[i], immutable):
			case isPool(v.Values[i]) && !name.IsExported():
			case !isTable(v.Values[i]):
				complain(name, "package variable %s can change: make it a constant, a function or a field", name)
			case name.IsExported():
				complain(name, "package variable %s is a table that others can change: make it a function", name)
			default:
				if at := s.writtenAt(name.Name); at != nil {
					complain(at, "package variable %s is changed here: make it a field", name)
				}
			}
		}
	}
}

// selector prints an expression of the form a.b, "" for others.
func selector(e ast.Expr) string {
	if sel, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := sel.X.(*ast.Ident); ok {
			return x.Name + "." + sel.Sel.Name
		}
	}
	return ""
}

func isCall(e ast.Expr, functions []string) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && slices.Contains(functions, selector(call.Fun))
}

func isPool(e ast.Expr) bool {
	literal, ok := e.(*ast.CompositeLit)
	return ok && selector(literal.Type) == "sync.Pool"
}

// isTable reports whether e is a literal of a type that has no methods of another package, or a []byte("…").
func isTable(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return selector(e.Type) == ""
	case *ast.CallExpr:
		_, ok := e.Fun.(*ast.ArrayType)
		return ok
	}
	return false
}

// writtenAt finds where the package changes a variable or takes its address; nil when it does not.
func (s *source) writtenAt(name string) (at ast.Node) {
	isIt := func(e ast.Expr) bool { return rootOf(e) == name }
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			found := false
			switch n := n.(type) {
			case *ast.AssignStmt:
				found = n.Tok != token.DEFINE && slices.ContainsFunc(n.Lhs, isIt)
			case *ast.IncDecStmt:
				found = isIt(n.X)
			case *ast.UnaryExpr:
				found = n.Op == token.AND && isIt(n.X)
			case *ast.CallExpr:
				fun, _ := n.Fun.(*ast.Ident)
				found = fun != nil && (fun.Name == "delete" || fun.Name == "clear" || fun.Name == "copy") && isIt(n.Args[0])
			}
			if found && at == nil {
				at = n
			}
			return at == nil
		})
	}
	return at
}

// rootOf is the variable that an expression like v, v[i], v.f or *v is about.
func rootOf(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return ""
		}
	}
}

// documented counts the exported names of a package and lists those without a comment.
func (s *source) documented(t testing.TB) (names int, bare []string) {
	d, err := doc.NewFromFiles(s.fset, s.files, path.Join(module, s.path), doc.PreserveAST)
	if err != nil {
		t.Fatal(err)
	}
	note := func(comment, name string) {
		names++
		if strings.TrimSpace(comment) == "" {
			bare = append(bare, s.path+": "+name)
		}
	}
	funcs := func(fs []*doc.Func, of string) {
		for _, f := range fs {
			note(f.Doc, of+f.Name)
		}
	}
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			for _, spec := range v.Decl.Specs {
				spec := spec.(*ast.ValueSpec)
				for _, name := range spec.Names {
					if name.IsExported() {
						note(v.Doc+spec.Doc.Text()+spec.Comment.Text(), name.Name)
					}
				}
			}
		}
	}
	funcs(d.Funcs, "")
	values(d.Consts)
	values(d.Vars)
	for _, typ := range d.Types {
		note(typ.Doc, typ.Name)
		funcs(typ.Funcs, "")
		funcs(typ.Methods, typ.Name+".")
		values(typ.Consts)
		values(typ.Vars)
	}
	return names, bare
}
