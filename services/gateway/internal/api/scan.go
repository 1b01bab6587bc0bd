package api

import (
	"iter"
	"slices"
	"unicode/utf8"
)

// maxScanned is how many keys a scanner compares with one another.
const maxScanned = 32

// scanner reads JSON in one pass and recognizes what [checkJSON] has nothing
// against. What is rare (many keys, keys with escapes, exponents) it does not
// recognize, and it says nothing about why: that is left to those who look
// again, more slowly.
type scanner struct {
	data []byte
	i    int
	// keys are those of the objects that are open, n how many.
	keys [maxScanned][]byte
	n    int
	// wide is set when there is more than ASCII.
	wide bool
}

// soundJSON reports whether data is JSON that checkJSON accepts; false when it
// is not, or when it takes more than a glance to tell.
func soundJSON(data []byte) bool {
	s := scanner{data: data}
	return s.value(0) && s.peek() == 0 && s.i == len(data) && (!s.wide || utf8.Valid(data))
}

// peek returns the next byte that is no white space, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.data) && isSpace(s.data[s.i]) {
		s.i++
	}
	if s.i == len(s.data) {
		return 0
	}
	return s.data[s.i]
}

// skip skips c, if it is next.
func (s *scanner) skip(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// value reads a value inside of as many arrays and objects as depth says.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); {
	case c == '"':
		return s.text()
	case c == '{':
		return depth < maxDepth && s.object(depth+1)
	case c == '[':
		return depth < maxDepth && s.array(depth+1)
	case c == '-' || isDigit(c):
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return false
}

func (s *scanner) object(depth int) bool {
	s.i++
	if s.skip('}') {
		return true
	}
	first := s.n
	for s.key(first) && s.skip(':') && s.value(depth) {
		if s.skip('}') {
			s.n = first
			return true
		}
		if !s.skip(',') {
			break
		}
	}
	return false
}

// key reads a key that is not among those from the first one on.
func (s *scanner) key(first int) bool {
	if s.peek() != '"' || s.n == maxScanned {
		return false
	}
	from := s.i
	if !s.text() {
		return false
	}
	key := s.data[from:s.i]
	for _, k := range s.keys[first:s.n] {
		if string(k) == string(key) {
			return false
		}
	}
	if slices.Contains(key, '\\') {
		return false // it may be another one in disguise
	}
	s.keys[s.n] = key
	s.n++
	return true
}

func (s *scanner) array(depth int) bool {
	s.i++
	if s.skip(']') {
		return true
	}
	for s.value(depth) {
		if s.skip(']') {
			return true
		}
		if !s.skip(',') {
			break
		}
	}
	return false
}

// text reads a string. Whether what is no ASCII is UTF-8 is seen later.
func (s *scanner) text() bool {
	for i := s.i + 1; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.i = i + 1
			return true
		case c < ' ':
			return false
		case c >= utf8.RuneSelf:
			s.wide = true
		case c == '\\':
			n := escapeLen(s.data[i:])
			if n == 0 {
				return false
			}
			i += n - 1
		}
	}
	return false
}

// escapeLen is the length of the escape sequence that b begins with, 0 when it
// is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// number reads a number without an exponent.
func (s *scanner) number() bool {
	from := s.i
	if s.data[s.i] == '-' {
		s.i++
	}
	if whole := s.digits(); whole == 0 || whole > 1 && s.data[s.i-whole] == '0' {
		return false
	}
	if s.at('.') {
		s.i++
		if s.digits() == 0 {
			return false
		}
	}
	return !s.at('e') && !s.at('E') && s.i-from <= maxDigits
}

func (s *scanner) at(c byte) bool { return s.i < len(s.data) && s.data[s.i] == c }

func (s *scanner) digits() int {
	from := s.i
	for s.i < len(s.data) && isDigit(s.data[s.i]) {
		s.i++
	}
	return s.i - from
}

func (s *scanner) word(w string) bool {
	if len(s.data)-s.i < len(w) || string(s.data[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// members yields the keys, with their quotes, and the values of an object in
// JSON that was checked.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		s := scanner{data: object}
		if !s.skip('{') {
			return
		}
		for s.peek() == '"' {
			from := s.i
			s.i = stringEnd(s.data, from)
			key := s.data[from:s.i]
			s.skip(':')
			if !yield(key, s.raw()) || !s.skip(',') {
				return
			}
		}
	}
}

// elements yields the elements of an array in JSON that was checked.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		s := scanner{data: array}
		if !s.skip('[') {
			return
		}
		for c := s.peek(); c != ']' && c != 0; {
			if !yield(s.raw()) || !s.skip(',') {
				return
			}
		}
	}
}

// raw reads the bytes of a value in JSON that was checked.
func (s *scanner) raw() []byte {
	c := s.peek()
	from := s.i
	switch c {
	case '"':
		s.i = stringEnd(s.data, from)
	case '{', '[':
		s.i = nestEnd(s.data, from)
	default:
		for s.i < len(s.data) && !isSpace(s.data[s.i]) && s.data[s.i] != ',' && s.data[s.i] != '}' && s.data[s.i] != ']' {
			s.i++
		}
	}
	return s.data[from:s.i]
}

// nestEnd returns the position after the array or object that opens at i.
func nestEnd(data []byte, i int) int {
	for depth := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(data)
}
