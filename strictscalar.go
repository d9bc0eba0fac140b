package pulse

// text reads a string and tells whether it has escapes.
func (s *scanner) text(i int) (escaped, ok bool) {
	for i++; i < len(s.data); {
		switch c := s.data[i]; {
		case c == '"':
			s.at = i + 1
			return escaped, true
		case c == '\\':
			escaped = true
			if i = s.escape(i); i < 0 {
				return escaped, false
			}
		case c < ' ':
			return escaped, s.fail(i, "control character in a string: escape it")
		default:
			i++
		}
	}
	return escaped, s.fail(len(s.data), "the string does not end: close it with '\"'")
}

// escape returns the byte behind the escape at i, -1 when it is wrong.
func (s *scanner) escape(i int) int {
	if i+1 < len(s.data) {
		switch s.data[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			return i + 2
		case 'u':
			return s.unicodeEscape(i)
		}
	}
	s.fail(i, `unknown escape: only \" \\ \/ \b \f \n \r \t and \uXXXX exist`)
	return -1
}

func (s *scanner) unicodeEscape(i int) int {
	unit, ok := s.unit(i)
	switch {
	case !ok:
		s.fail(i, `want four hexadecimal digits after \u`)
		return -1
	case unit < 0xd800 || unit > 0xdfff:
		return i + 6
	}
	if low, ok := s.unit(i + 6); ok && unit <= 0xdbff && low >= 0xdc00 && low <= 0xdfff {
		return i + 12
	}
	s.fail(i, "half of a surrogate pair: it stands for no character, remove it")
	return -1
}

// unit reads the UTF-16 unit of a \uXXXX at i.
func (s *scanner) unit(i int) (unit rune, ok bool) {
	if i+6 > len(s.data) || s.data[i] != '\\' || s.data[i+1] != 'u' {
		return 0, false
	}
	for _, c := range s.data[i+2 : i+6] {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	return unit, true
}

func (s *scanner) number(i int) bool {
	if s.data[i] == '-' {
		i++
	}
	start := i
	if i = s.digits(i); i == start {
		return s.fail(i, "want a digit")
	}
	if s.data[start] == '0' && i > start+1 {
		return s.fail(start, "the number begins with 0: remove it")
	}
	if i < len(s.data) && s.data[i] == '.' {
		start = i + 1
		if i = s.digits(start); i == start {
			return s.fail(i, "want a digit after the decimal point")
		}
	}
	if i < len(s.data) && (s.data[i] == 'e' || s.data[i] == 'E') {
		start = i + 1
		if start < len(s.data) && (s.data[start] == '+' || s.data[start] == '-') {
			start++
		}
		if i = s.digits(start); i == start {
			return s.fail(i, "want a digit in the exponent")
		}
	}
	s.at = i
	return true
}

// digits returns the first byte at or after i that is no digit.
func (s *scanner) digits(i int) int {
	for i < len(s.data) && isDigit(s.data[i]) {
		i++
	}
	return i
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
