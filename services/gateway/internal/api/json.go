package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	// maxDepth bounds how deep arrays and objects may nest.
	maxDepth = 64
	// maxDigits bounds the length of a number and maxExponent its exponent.
	// Beyond them lies no use, but readers that spend seconds on one number
	// (big.Rat, Python's int) or refuse it.
	maxDigits   = 1000
	maxExponent = 308
)

// checkJSON checks that data is one JSON value in UTF-8, nested no deeper than
// maxDepth, without a key given twice in an object (one reader takes the first,
// another the last) and without absurd numbers. The error is a [*problem] that
// names the position.
func checkJSON(data []byte) error {
	if soundJSON(data) {
		return nil
	}
	return faultOf(data)
}

// faultOf checks step by step, and says what is wrong and where.
func faultOf(data []byte) error {
	if len(data) == 0 {
		return newProblem(slugEmptyBody, "send a JSON object; {} when there is no input")
	}
	if at := tooDeepAt(data); at >= 0 {
		return newProblem(slugTooDeep, fmt.Sprintf("arrays and objects may nest %d deep; the limit is passed at %s", maxDepth, position(data, at)))
	}
	if !json.Valid(data) {
		return malformed(data)
	}
	if !utf8.Valid(data) {
		return newProblem(slugMalformed, "not UTF-8 at "+position(data, invalidUTF8(data)))
	}
	return checkTokens(data)
}

// malformed says where the grammar is broken.
func malformed(data []byte) error {
	var into json.RawMessage
	err := json.Unmarshal(data, &into)
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return newProblem(slugMalformed, "not JSON")
	}
	return newProblem(slugMalformed, syntax.Error()+" at "+position(data, int(syntax.Offset)-1))
}

// position names the byte at the offset in the way editors do.
func position(data []byte, offset int) string {
	offset = min(max(offset, 0), len(data))
	before := data[:offset]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := offset - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d (byte %d)", line, column, offset)
}

// tooDeepAt returns where nesting passes the limit, or -1. It looks before the
// grammar is checked, for readers recurse.
func tooDeepAt(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return i
			}
		case '}', ']':
			depth--
		}
	}
	return -1
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}

// stringEnd returns the position after the string that opens at i.
func stringEnd(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// checkTokens looks at the keys and numbers of valid JSON.
func checkTokens(data []byte) error {
	var open [maxDepth]keySet
	depth := -1
	for i := 0; i < len(data); {
		switch c := data[i]; {
		case c == '{' || c == '[':
			depth++
			open[depth] = keySet{}
			i++
		case c == '}' || c == ']':
			depth--
			i++
		case c == '"':
			end := stringEnd(data, i)
			if isKey(data, end) && !open[depth].add(data[i:end]) {
				return newProblem(slugDuplicateKey, fmt.Sprintf("the key %s is given twice in one object, again at %s", clip(data[i:end]), position(data, i)))
			}
			i = end
		case c == '-' || c >= '0' && c <= '9':
			end := numberEnd(data, i)
			if rule := numberRule(data[i:end]); rule != "" {
				return newProblem(slugNumberRange, rule+" at "+position(data, i))
			}
			i = end
		default:
			i++
		}
	}
	return nil
}

// isKey reports whether a colon follows.
func isKey(data []byte, i int) bool {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i < len(data) && data[i] == ':'
}

func numberEnd(data []byte, i int) int {
	for i < len(data) && (data[i] >= '0' && data[i] <= '9' || bytes.IndexByte([]byte("+-.eE"), data[i]) >= 0) {
		i++
	}
	return i
}

func numberRule(number []byte) string {
	if len(number) > maxDigits {
		return fmt.Sprintf("a number may have at most %d digits; send it as a string", maxDigits)
	}
	at := bytes.IndexAny(number, "eE")
	if at < 0 {
		return ""
	}
	if exponent, err := strconv.Atoi(string(number[at+1:])); err != nil || exponent > maxExponent || exponent < -maxExponent {
		return fmt.Sprintf("the exponent of a number must be within ±%d", maxExponent)
	}
	return ""
}

// clip shortens a key for an error message.
func clip(key []byte) string {
	const longest = 64
	if len(key) <= longest {
		return string(key)
	}
	return string(bytes.ToValidUTF8(key[:longest], nil)) + `…"`
}

// keySet holds the keys of one object: few in a list, many in a map.
type keySet struct {
	few  []string
	many map[string]struct{}
}

// add reports false when the key, a JSON string with its quotes, is there.
func (s *keySet) add(raw []byte) bool {
	const few = 16
	key := string(unquote(raw)) // escapes may hide that two are the same
	if s.many != nil {
		n := len(s.many)
		s.many[key] = struct{}{}
		return len(s.many) > n
	}
	if slices.Contains(s.few, key) {
		return false
	}
	s.few = append(s.few, key)
	if len(s.few) > few {
		s.many = make(map[string]struct{}, 2*few)
		for _, k := range s.few {
			s.many[k] = struct{}{}
		}
	}
	return true
}

// unquote returns what a JSON string means; it shares its bytes where it can.
func unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var text string
	_ = json.Unmarshal(raw, &text)
	return []byte(text)
}
