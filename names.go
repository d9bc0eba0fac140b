package pulse

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits in bytes. An event name is a routing key in AMQP, which ends at 255.
const (
	maxName = 255
	maxText = 512
)

// ValidateName reports whether name can name an event: words of a-z, 0-9, '_' and '-', each beginning with a letter
// or digit, joined by dots, at most 255 bytes. The error is an ErrInvalid that says what to change.
func ValidateName(name string) error {
	return validateTokens("event name", name, false)
}

// ValidatePattern reports whether p can select event names: it is a name in which words may be "*" (any one word) and
// the last may be ">" (one or more words). The error is an ErrInvalid that says what to change.
func ValidatePattern(p string) error {
	return validateTokens("event name pattern", p, true)
}

func validateTokens(what, s string, pattern bool) error {
	if s == "" {
		return fmt.Errorf("%w: %s is empty: give one such as \"lesson.published\"", ErrInvalid, what)
	}
	if len(s) > maxName {
		return fmt.Errorf("%w: %s %s has %d bytes: use at most %d", ErrInvalid, what, clip(s), len(s), maxName)
	}
	rest, more := s, true
	for more {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		if pattern && (token == "*" || token == ">" && !more) {
			continue
		}
		if why := tokenFault(token, pattern); why != "" {
			return fmt.Errorf("%w: %s %s: %s", ErrInvalid, what, clip(s), why)
		}
	}
	return nil
}

// tokenFault says what is wrong with one word of a name, "" when nothing is.
func tokenFault(token string, pattern bool) string {
	switch {
	case token == "":
		return "it has an empty word: remove the extra dot"
	case token == ">" && pattern:
		return "'>' stands for all remaining words: put it last, or use '*' for one word"
	case token[0] == '-' || token[0] == '_':
		return fmt.Sprintf("the word %q begins with %q: begin it with a letter or digit", token, token[0])
	}
	for _, r := range token {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
		case r >= 'A' && r <= 'Z':
			return fmt.Sprintf("%q is upper case: write names in lower case", r)
		case (r == '*' || r == '>') && pattern:
			return fmt.Sprintf("%q stands for whole words: let it stand alone between dots", r)
		case r == '*' || r == '>':
			return fmt.Sprintf("%q belongs in patterns only: name one event", r)
		default:
			return fmt.Sprintf("%q is not allowed: use words of a-z, 0-9, '_' and '-', joined by dots", r)
		}
	}
	return ""
}

// MatchName reports whether name is one that pattern selects. Both must be valid.
func MatchName(pattern, name string) bool {
	j := 0
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '>':
			return j < len(name)
		case '*':
			start := j
			for j < len(name) && name[j] != '.' {
				j++
			}
			if j == start {
				return false
			}
		default:
			if j == len(name) || name[j] != c {
				return false
			}
			j++
		}
	}
	return j == len(name)
}

// overlap reports whether there is a name that the valid patterns a and b both select.
func overlap(a, b string) bool {
	moreA, moreB := true, true
	for moreA && moreB {
		var tokenA, tokenB string
		tokenA, a, moreA = strings.Cut(a, ".")
		tokenB, b, moreB = strings.Cut(b, ".")
		if tokenA == ">" || tokenB == ">" {
			return true // each has a word left, and '>' takes whatever words the other takes
		}
		if tokenA != tokenB && tokenA != "*" && tokenB != "*" {
			return false
		}
	}
	return moreA == moreB
}

// validateKey checks an ordering key; "" means none and is valid. What NATS and AMQP treat as a wildcard or separator
// of subjects is refused, so that a key can be part of one.
func validateKey(key string) error { return validateID("key", key) }

// validateCorrelation checks a correlation id; "" means none and is valid.
func validateCorrelation(id string) error { return validateID("correlation id", id) }

// validateID checks an identifier other programs made: text without spaces and wildcards.
func validateID(what, s string) error {
	if err := validateText(what, s, maxText); err != nil {
		return err
	}
	for _, r := range s {
		if r == '*' || r == '>' || r == ' ' || r >= utf8.RuneSelf && unicode.IsSpace(r) {
			return fmt.Errorf("%w: %s %s contains %q: use no spaces, '*' and '>'", ErrInvalid, what, clip(s), r)
		}
	}
	return nil
}

// printable reports whether s is of ASCII's printable characters only, as nearly every text is that emits bring.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// validateText checks that s is something CloudEvents calls a String (spec 1.0.2, 3.1): UTF-8 without control characters and
// noncharacters, and that it has at most max bytes.
func validateText(what, s string, max int) error {
	if len(s) > max {
		return fmt.Errorf("%w: %s %s has %d bytes: use at most %d", ErrInvalid, what, clip(s), len(s), max)
	}
	if printable(s) {
		return nil
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return fmt.Errorf("%w: %s %s is not UTF-8 at byte %d: convert it first", ErrInvalid, what, clip(s), i)
			}
		}
		if unicode.IsControl(r) || noncharacter(r) {
			return fmt.Errorf("%w: %s %s contains %U at byte %d: use no control characters", ErrInvalid, what, clip(s), r, i)
		}
	}
	return nil
}

// noncharacter tells the 66 code points Unicode never assigns (Unicode 23.7).
func noncharacter(r rune) bool { return r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef }

// validateTrace checks a traceparent as W3C Trace Context level 1 (section 3.2) has it; "" means none and is valid.
// A version newer than 00 may go on after the flags.
func validateTrace(traceparent string) error {
	if traceparent == "" || validTrace(traceparent) {
		return nil
	}
	return fmt.Errorf("%w: traceparent %s: want version-traceid-parentid-flags in lower-case hex such as "+
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, or leave it out", ErrInvalid, clip(traceparent))
}

func validTrace(s string) bool {
	const size = 55 // 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < size || len(s) > maxText || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent := s[:2], s[3:35], s[36:52]
	if !lowerHex(version) || !lowerHex(trace) || !lowerHex(parent) || !lowerHex(s[53:55]) {
		return false
	}
	if version == "ff" || strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return false
	}
	if len(s) == size {
		return true
	}
	return version != "00" && s[size] == '-' && printableASCII(s[size:])
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// clip quotes s for an error text, cut where a reader has seen enough.
func clip(s string) string {
	const enough = 64
	if len(s) > enough {
		return fmt.Sprintf("%q…", s[:enough])
	}
	return fmt.Sprintf("%q", s)
}
