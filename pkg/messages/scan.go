package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// MaxDepth is how deep arrays and objects may nest in args, kwargs, embed and
// header values. Python's own reader gives up near 1000.
const MaxDepth = 128

// The functions in this file walk over JSON that json.Valid has accepted, so
// they need not check the grammar again.

// isSpace reports whether c is white space between JSON tokens.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// space returns the position of the first byte from i on that is not white
// space.
func space(raw []byte, i int) int {
	for i < len(raw) && isSpace(raw[i]) {
		i++
	}
	return i
}

// stringEnd returns the position after the string that opens at i.
func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw); {
		j := bytes.IndexByte(raw[i:], '"')
		if j < 0 {
			break
		}
		j += i
		slashes := 0
		for raw[j-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return j + 1
		}
		i = j + 1
	}
	return len(raw)
}

// valueEnd returns the position after the value that starts at i, and how deep
// it nests: 0 for a scalar, 1 for a flat array or object.
func valueEnd(raw []byte, i int) (end, depth int) {
	level := 0
	for i < len(raw) {
		switch c := raw[i]; c {
		case '"':
			i = stringEnd(raw, i)
		case '[', '{':
			level++
			depth = max(depth, level)
			i++
		case ']', '}':
			if level == 0 {
				return i, depth
			}
			level--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			if level == 0 {
				return i, depth
			}
			i++
			continue
		default:
			i++
			continue
		}
		if level == 0 {
			return i, depth
		}
	}
	return i, depth
}

// kind returns the first significant byte of a value: '[', '{', '"', 'n', 't',
// 'f', '-', a digit, or 0 when there is none.
func kind(raw []byte) byte {
	if i := space(raw, 0); i < len(raw) {
		return raw[i]
	}
	return 0
}

// elements yields the elements of an array.
func elements(raw []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := space(raw, space(raw, 0)+1)
		for i < len(raw) && raw[i] != ']' {
			end, _ := valueEnd(raw, i)
			if !yield(raw[i:end]) {
				return
			}
			i = space(raw, end)
			if i < len(raw) && raw[i] == ',' {
				i = space(raw, i+1)
			}
		}
	}
}

// members yields the names and values of an object; a name is a JSON string,
// quotes included.
func members(raw []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := space(raw, space(raw, 0)+1)
		for i < len(raw) && raw[i] != '}' {
			nameEnd := stringEnd(raw, i)
			name := raw[i:nameEnd]
			// Past the colon.
			i = space(raw, space(raw, nameEnd)+1)
			end, _ := valueEnd(raw, i)
			if !yield(name, raw[i:end]) {
				return
			}
			i = space(raw, end)
			if i < len(raw) && raw[i] == ',' {
				i = space(raw, i+1)
			}
		}
	}
}

// text returns the string that a JSON string stands for.
func text(raw []byte) string {
	if len(raw) >= 2 && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s)
	return s
}

// checkJSON says what is wrong with raw as JSON text.
func checkJSON(raw []byte) error {
	if json.Valid(raw) {
		return nil
	}
	if literal := pythonLiteral(raw); literal != "" {
		return fmt.Errorf("%s is not JSON", literal)
	}
	var into json.RawMessage
	err := json.Unmarshal(raw, &into)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%w at byte %d", err, syntax.Offset)
	}
	return err
}

// pythonLiterals are the number words that Python's json module writes and
// JSON does not have.
func pythonLiterals() [3]string { return [3]string{"NaN", "-Infinity", "Infinity"} }

// pythonLiteral returns the first Python literal outside of strings, or "".
func pythonLiteral(raw []byte) string {
	for i := 0; i < len(raw); {
		if raw[i] == '"' {
			i = stringEnd(raw, i)
			continue
		}
		if n := literalLen(raw[i:]); n > 0 {
			return string(raw[i : i+n])
		}
		i++
	}
	return ""
}

// literalLen returns the length of the Python literal that raw begins with, 0
// when it begins with none.
func literalLen(raw []byte) int {
	for _, word := range pythonLiterals() {
		if bytes.HasPrefix(raw, []byte(word)) {
			return len(word)
		}
	}
	return 0
}
