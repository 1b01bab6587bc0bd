package api

import (
	"bytes"
	"math"
	"math/big"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// glance is what of a JSON Schema can be checked on the bytes of an input,
// without making values of them. It recognizes what certainly fits; about all
// else the library has the word, and says what is wrong.
type glance struct {
	types   []string // none for all
	members map[string]member
	// required is how many of the members must be there, closed whether there
	// may be no others.
	required int
	closed   bool
	items    *glance // nil for anything
	size     span    // of arrays
	length   span    // of strings, in characters
	words    []string
	format   *jsonschema.Format
	pattern  jsonschema.Regexp
	millions span // numbers, in millionths
}

// member is a property that a schema names. Without rules it takes anything.
type member struct {
	rules             *glance
	ruled, isRequired bool
}

// span is a range of numbers, with its ends.
type span struct{ low, high int64 }

func anySpan() span { return span{math.MinInt64, math.MaxInt64} }

func (s span) has(n int64) bool { return s.low <= n && n <= s.high }

// newGlance returns nil, which recognizes nothing, for a schema with rules that
// are not looked at here.
func newGlance(s *jsonschema.Schema) *glance {
	if s == nil || !glanceable(s) {
		return nil
	}
	g := &glance{
		members: map[string]member{}, required: len(s.Required), closed: s.AdditionalProperties != nil && s.AdditionalProperties != true,
		size: spanOf(s.MinItems, s.MaxItems), length: spanOf(s.MinLength, s.MaxLength), format: s.Format, pattern: s.Pattern,
	}
	if s.Types != nil {
		g.types = s.Types.ToStrings()
	}
	for name, rules := range s.Properties {
		g.members[name] = member{rules: newGlance(rules), ruled: true}
	}
	for _, name := range s.Required {
		m := g.members[name]
		m.isRequired = true
		g.members[name] = m
	}
	ok := true
	if s.Items2020 != nil {
		g.items = newGlance(s.Items2020)
		ok = g.items != nil
	}
	if s.Enum != nil {
		ok = g.addWords(s.Enum.Values) && ok
	}
	if !g.addBounds(s) || !ok {
		return nil
	}
	return g
}

// glanceable reports whether the schema has no rules but those of a glance.
func glanceable(s *jsonschema.Schema) bool {
	known := []string{
		"DraftVersion", "Location", "ID", "Anchor", "Title", "Description", "Default", "Comment", "ReadOnly", "WriteOnly",
		"Examples", "Deprecated", "Types", "Properties", "Required", "AdditionalProperties", "Items2020", "MinItems", "MaxItems",
		"Enum", "MinLength", "MaxLength", "Format", "Pattern", "Minimum", "Maximum", "ExclusiveMinimum", "ExclusiveMaximum",
	}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && !v.Field(i).IsZero() && !slices.Contains(known, f.Name) {
			return false
		}
	}
	return true
}

func spanOf(low, high *int) span {
	s := anySpan()
	if low != nil {
		s.low = int64(*low)
	}
	if high != nil {
		s.high = int64(*high)
	}
	return s
}

func (g *glance) addWords(values []any) bool {
	for _, v := range values {
		word, ok := v.(string)
		if !ok {
			return false
		}
		g.words = append(g.words, word)
	}
	return len(g.words) > 0
}

// addBounds reports false when a bound is no whole number of millionths.
func (g *glance) addBounds(s *jsonschema.Schema) bool {
	g.millions = anySpan()
	ok := true
	bound := func(r *big.Rat, set func(n int64)) {
		if r == nil {
			return
		}
		scaled := new(big.Rat).Mul(r, big.NewRat(1e6, 1))
		if !scaled.IsInt() || scaled.Num().BitLen() > 62 {
			ok = false
			return
		}
		set(scaled.Num().Int64())
	}
	m := &g.millions
	bound(s.Minimum, func(n int64) { m.low = max(m.low, n) })
	bound(s.ExclusiveMinimum, func(n int64) { m.low = max(m.low, n+1) })
	bound(s.Maximum, func(n int64) { m.high = min(m.high, n) })
	bound(s.ExclusiveMaximum, func(n int64) { m.high = min(m.high, n-1) })
	return ok
}

// fits reports whether the schema takes the value for certain. The value was
// checked to be JSON.
func (g *glance) fits(raw []byte) bool {
	if g == nil {
		return false
	}
	raw = bytes.TrimSpace(raw)
	kind := valueType(raw)
	if len(g.types) > 0 && !slices.Contains(g.types, kind) && (kind != "number" || !slices.Contains(g.types, "integer") || !whole(raw)) {
		return false
	}
	if kind != "string" && (g.words != nil || g.format != nil) {
		return false
	}
	switch kind {
	case "object":
		return g.fitsObject(raw)
	case "array":
		return g.fitsArray(raw)
	case "string":
		return g.fitsText(unquote(raw))
	case "number":
		if g.millions == anySpan() {
			return true
		}
		n, ok := millionths(raw)
		return ok && g.millions.has(n)
	}
	return true
}

func (g *glance) fitsObject(raw []byte) bool {
	required := 0
	for key, value := range members(raw) {
		m, known := g.members[string(unquote(key))]
		if (!known || !m.ruled) && g.closed || m.ruled && !m.rules.fits(value) {
			return false
		}
		if m.isRequired {
			required++
		}
	}
	return required == g.required
}

func (g *glance) fitsArray(raw []byte) bool {
	n := int64(0)
	for value := range elements(raw) {
		if g.items != nil && !g.items.fits(value) {
			return false
		}
		n++
	}
	return g.size.has(n)
}

func (g *glance) fitsText(text []byte) bool {
	if g.length != anySpan() && !g.length.has(int64(utf8.RuneCount(text))) {
		return false
	}
	if g.words != nil && !slices.Contains(g.words, string(text)) || g.pattern != nil && !g.pattern.MatchString(string(text)) {
		return false
	}
	return g.format == nil || g.format.Validate(string(text)) == nil
}

// valueType returns the type of a value by the names of JSON Schema, number for
// all that are one.
func valueType(raw []byte) string {
	switch raw[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	default:
		return "number"
	}
}

// whole reports whether a number is written as a whole one.
func whole(number []byte) bool {
	for _, c := range number {
		if c != '-' && !isDigit(c) {
			return false
		}
	}
	return true
}

// millionths reads a number of usual size; false when it is another.
func millionths(number []byte) (n int64, ok bool) {
	const longest = 12
	digits, negative := number, number[0] == '-'
	if negative {
		digits = digits[1:]
	}
	point, fraction := false, 0
	for i, c := range digits {
		switch {
		case c == '.':
			if i > longest {
				return 0, false
			}
			point = true
		case !isDigit(c) || point && fraction == 6 || !point && i >= longest:
			return 0, false
		default:
			n = n*10 + int64(c-'0')
			if point {
				fraction++
			}
		}
	}
	for range 6 - fraction {
		n *= 10
	}
	if negative {
		n = -n
	}
	return n, true
}
