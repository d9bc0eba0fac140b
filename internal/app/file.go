package app

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is more than any configuration needs, in bytes.
const maxFile = 1 << 20

// fileValue is a value and where it stands.
type fileValue struct {
	text  string
	where string // file:line
}

// parseFile reads the YAML of a configuration file: one mapping of known keys to plain values. It goes on after an error, to
// report them all.
func parseFile(path string, data []byte) (map[string]fileValue, []Problem) {
	if len(data) > maxFile {
		return nil, []Problem{{path, fmt.Sprintf("%d bytes are too many for a configuration: is this the right file?", len(data))}}
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, []Problem{{path, "is not a text file"}}
	}
	tree, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []Problem{syntaxProblem(path, err)}
	}
	f := configFile{path: path, values: map[string]fileValue{}}
	for i, doc := range tree.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case i > 0 && len(tree.Docs) > 1:
			f.fault(doc.Body, "a second document: give one, without ---")
		default:
			f.mapping(doc.Body)
		}
	}
	return f.values, f.problems
}

func syntaxProblem(path string, err error) Problem {
	if s, ok := errors.AsType[*yaml.SyntaxError](err); ok && s.Token != nil {
		return Problem{fmt.Sprintf("%s:%d", path, s.Token.Position.Line), "not YAML: " + s.Message}
	}
	return Problem{path, "not YAML: " + err.Error()}
}

// configFile is a file being read.
type configFile struct {
	path     string
	values   map[string]fileValue
	problems []Problem
}

func (f *configFile) fault(n ast.Node, format string, args ...any) {
	f.problems = append(f.problems, Problem{f.where(n), fmt.Sprintf(format, args...)})
}

func (f *configFile) where(n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("%s:%d", f.path, t.Position.Line)
	}
	return f.path
}

func (f *configFile) mapping(n ast.Node) {
	var entries []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		entries = m.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{m}
	case *ast.NullNode:
	default:
		f.fault(n, `not a list of settings: write lines such as "store: sqlite:pulse.db"`)
	}
	for _, e := range entries {
		f.entry(e)
	}
}

func (f *configFile) entry(e *ast.MappingValueNode) {
	known := make([]string, 0, 8)
	for _, s := range Settings() {
		known = append(known, s.Name)
	}
	key, ok := scalar(e.Key)
	switch {
	case !ok || !slices.Contains(known, key):
		f.fault(e.Key, "unknown key %q: known are %s", keyText(e.Key, key), strings.Join(known, ", "))
		return
	case f.values[key].where != "":
		f.fault(e.Key, "%s is set again, first at %s: remove one", key, f.values[key].where)
		return
	}
	value, ok := scalar(e.Value)
	if !ok {
		f.fault(e.Value, "%s needs one plain value, such as text in quotes", key)
		value = "" // the setting itself complains no further
	}
	if ok && value == "" {
		f.fault(e.Key, "%s has no value: give one or remove the line", key)
		ok = false
	}
	if ok {
		f.values[key] = fileValue{value, f.where(e.Key)}
	}
}

// keyText shows a key in an error.
func keyText(n ast.Node, scalar string) string {
	if scalar != "" {
		return scalar
	}
	if t := n.GetToken(); t != nil {
		return t.Value
	}
	return "?"
}

// scalar returns the text of a plain value; false for lists, mappings, anchors and the like.
func scalar(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.NullNode:
		return "", true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}
