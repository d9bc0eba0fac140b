package cloudevents

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// members reads the members of a JSON object one by one. It checks what is between them; what is in a value is checked by who uses
// it, so a value that is not used must be refused.
type members struct {
	data  []byte
	at    int
	name  []byte // of the current member, escapes resolved
	value []byte // of the current member, as it stands, without white space around it
	err   error
}

// next goes to the next member. It returns false behind the last one, and when err says why it cannot go on.
func (m *members) next() bool {
	m.space()
	switch {
	case m.name == nil && !m.take('{'):
		return m.fail("want one JSON object")
	case m.name == nil:
		m.space()
		if m.take('}') {
			return m.end()
		}
	case m.take('}'):
		return m.end()
	case !m.take(','):
		return m.fail("want ',' or '}'")
	}
	m.space()
	if !m.readName() {
		return false
	}
	m.space()
	if !m.take(':') {
		return m.fail("want ':' after the name")
	}
	m.space()
	start := m.at
	if !m.skipValue() {
		return m.fail("want a value")
	}
	m.value = m.data[start:m.at]
	return true
}

func (m *members) fail(why string) bool {
	m.err = fmt.Errorf("cloudevents: %w: not a JSON object at byte %d: %s", pulse.ErrSerialization, m.at, why)
	return false
}

func (m *members) end() bool {
	m.space()
	if m.at < len(m.data) {
		return m.fail("something follows the object: give one event only")
	}
	return false
}

func (m *members) space() {
	for m.at < len(m.data) {
		switch m.data[m.at] {
		case ' ', '\t', '\n', '\r':
			m.at++
		default:
			return
		}
	}
}

func (m *members) take(c byte) bool {
	if m.at < len(m.data) && m.data[m.at] == c {
		m.at++
		return true
	}
	return false
}

func (m *members) readName() bool {
	start := m.at
	if m.at >= len(m.data) || m.data[m.at] != '"' || !m.skipString() {
		return m.fail("want a name in double quotes")
	}
	quoted := m.data[start:m.at]
	m.name = quoted[1 : len(quoted)-1]
	if bytes.IndexByte(m.name, '\\') >= 0 {
		if m.name, m.err = unquote(quoted); m.err != nil {
			return false
		}
	}
	return true
}

// skipString goes behind the string that begins here.
func (m *members) skipString() bool {
	for i := m.at + 1; i < len(m.data); i++ {
		switch m.data[i] {
		case '\\':
			i++
		case '"':
			m.at = i + 1
			return true
		}
	}
	return false
}

// skipValue goes behind the value that begins here, if it is one.
func (m *members) skipValue() bool {
	start, depth := m.at, 0
	for m.at < len(m.data) {
		switch m.data[m.at] {
		case '"':
			if !m.skipString() {
				return false
			}
			if depth == 0 {
				return true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return m.at > start
			}
			if depth--; depth == 0 {
				m.at++
				return true
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return m.at > start
			}
		}
		m.at++
	}
	return false
}

// unquote returns what a JSON string says; a part of quoted where that is the same.
func unquote(quoted []byte) ([]byte, error) {
	if quoted[0] != '"' {
		return nil, fmt.Errorf("%w: want a string, have %.40q", pulse.ErrInvalid, quoted)
	}
	s := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(s, '\\') < 0 {
		return s, nil // what it may not contain, checkText and checkName refuse
	}
	if err := pulse.CheckJSON(quoted); err != nil {
		return nil, err
	}
	var text string
	err := json.Unmarshal(quoted, &text)
	return []byte(text), err
}
