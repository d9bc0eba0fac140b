package pulse

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects of a payload may nest.
const maxDepth = 64

// CheckJSON reports whether data is a payload Emit takes: one JSON value as RFC 8259 has it, in UTF-8, in which no object has
// two members of one name, no escape is half of a surrogate pair, and arrays and objects nest at most 64 deep. Two programs
// that read such a value agree on what it says. The error is an ErrSerialization and names the byte.
func CheckJSON(data []byte) error { return checkJSON(data) }

func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return jsonFault(invalidUTF8At(data), "not UTF-8: convert the text first")
	}
	s := scanner{data: data}
	if !s.value(s.space(0), 0) {
		return jsonFault(s.at, s.why)
	}
	if end := s.space(s.at); end < len(data) {
		return jsonFault(end, "something follows the value: give exactly one")
	}
	return nil
}

func jsonFault(at int, why string) error {
	return fmt.Errorf("%w: not strict JSON at byte %d: %s", ErrSerialization, at, why)
}

func invalidUTF8At(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}

// scanner walks a JSON text of valid UTF-8. Its methods return whether what they look for is there; at is then the
// byte behind it, otherwise the byte that is wrong, and why says what to do.
type scanner struct {
	data    []byte
	at      int
	why     string
	few     [32]member // of the objects being read, innermost last: an array, so that a usual payload needs no allocation
	more    []member   // those that few has no room for
	members int        // in few and more
}

func (s *scanner) member(i int) member {
	if i < len(s.few) {
		return s.few[i]
	}
	return s.more[i-len(s.few)]
}

func (s *scanner) push(m member) {
	if s.members < len(s.few) {
		s.few[s.members] = m
	} else {
		s.more = append(s.more[:s.members-len(s.few)], m)
	}
	s.members++
}

// member is the name of an object's member, between its quotes.
type member struct {
	start, end int
	escaped    bool
}

func (s *scanner) fail(at int, why string) bool {
	s.at, s.why = at, why
	return false
}

// space returns the first byte at or after i that is not white space.
func (s *scanner) space(i int) int {
	for i < len(s.data) {
		switch s.data[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

func (s *scanner) value(i, depth int) bool {
	if i >= len(s.data) {
		return s.fail(i, "it ends where a value should be")
	}
	switch c := s.data[i]; {
	case c == '"':
		_, ok := s.text(i)
		return ok
	case c == '-' || isDigit(c):
		return s.number(i)
	case (c == '{' || c == '[') && depth == maxDepth:
		return s.fail(i, "nested deeper than 64: flatten the payload")
	case c == '{':
		return s.object(i, depth+1)
	case c == '[':
		return s.array(i, depth+1)
	case c == 't':
		return s.literal(i, "true")
	case c == 'f':
		return s.literal(i, "false")
	case c == 'n':
		return s.literal(i, "null")
	}
	return s.fail(i, "want a value: a string in double quotes, a number, an object, an array, true, false or null")
}

func (s *scanner) literal(i int, word string) bool {
	if len(s.data)-i < len(word) || string(s.data[i:i+len(word)]) != word {
		return s.fail(i, "misspelt literal: only true, false and null exist")
	}
	s.at = i + len(word)
	return true
}

func (s *scanner) array(i, depth int) bool {
	i = s.space(i + 1)
	if i < len(s.data) && s.data[i] == ']' {
		s.at = i + 1
		return true
	}
	for {
		if !s.value(i, depth) {
			return false
		}
		i = s.space(s.at)
		if i < len(s.data) && s.data[i] == ']' {
			s.at = i + 1
			return true
		}
		if i >= len(s.data) || s.data[i] != ',' {
			return s.fail(i, "want ',' or ']' in the array")
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) object(i, depth int) bool {
	names := nameSet{first: s.members}
	i = s.space(i + 1)
	if i < len(s.data) && s.data[i] == '}' {
		s.at = i + 1
		return true
	}
	for {
		if i >= len(s.data) || s.data[i] != '"' {
			return s.fail(i, "want a member name in double quotes")
		}
		escaped, ok := s.text(i)
		if !ok {
			return false
		}
		if !names.add(s, member{i + 1, s.at - 1, escaped}) {
			return s.fail(i, "the object has this member name twice: keep one")
		}
		i = s.space(s.at)
		if i >= len(s.data) || s.data[i] != ':' {
			return s.fail(i, "want ':' after the member name")
		}
		if !s.value(s.space(i+1), depth) {
			return false
		}
		i = s.space(s.at)
		if i < len(s.data) && s.data[i] == '}' {
			s.members = names.first
			s.at = i + 1
			return true
		}
		if i >= len(s.data) || s.data[i] != ',' {
			return s.fail(i, "want ',' or '}' in the object")
		}
		i = s.space(i + 1)
	}
}

// nameSet is the member names of one object: a part of the scanner's members, compared one by one while they are few, then a map.
type nameSet struct {
	first int // index of the first among the scanner's members
	many  map[string]struct{}
}

// add reports whether m is a new name.
func (n *nameSet) add(s *scanner, m member) bool {
	const few = 16
	if n.many == nil {
		for i := n.first; i < s.members; i++ {
			if s.sameName(s.member(i), m) {
				return false
			}
		}
		s.push(m)
		if s.members-n.first > few {
			n.many = make(map[string]struct{}, 4*few)
			for i := n.first; i < s.members; i++ {
				n.many[string(s.name(s.member(i)))] = struct{}{}
			}
		}
		return true
	}
	name := string(s.name(m))
	if _, taken := n.many[name]; taken {
		return false
	}
	n.many[name] = struct{}{}
	return true
}

func (s *scanner) sameName(a, b member) bool {
	if !a.escaped && !b.escaped {
		return a.end-a.start == b.end-b.start && string(s.data[a.start:a.end]) == string(s.data[b.start:b.end])
	}
	return slices.Equal(s.name(a), s.name(b))
}

// name returns what the member is called, its escapes resolved.
func (s *scanner) name(m member) []byte {
	if !m.escaped {
		return s.data[m.start:m.end]
	}
	var name string
	if err := json.Unmarshal(s.data[m.start-1:m.end+1], &name); err != nil {
		return s.data[m.start:m.end] // cannot be: text has read it
	}
	return []byte(name)
}
