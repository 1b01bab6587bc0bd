package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// param is one parameter of an operation: how it is documented, and how its
// text gets into a T. The same table reads the query, the options of an
// envelope, and writes the document, so that the three cannot differ.
type param[T any] struct {
	name   string
	doc    string
	schema *huma.Schema
	// list allows the parameter several times; its values are joined by commas.
	list bool
	// set returns the rule that the text breaks, "" when it breaks none.
	set func(into *T, text string) string
}

// parseQuery reads a query. It reports every fault, not only the first.
func parseQuery[T any](table []param[T], query string, into *T) []fieldError {
	values, err := url.ParseQuery(query)
	if err != nil {
		return []fieldError{atParameter("", "the query cannot be read: "+err.Error())}
	}
	var errs []fieldError
	for _, p := range table {
		got, given := values[p.name]
		delete(values, p.name)
		if !given {
			continue
		}
		if len(got) > 1 && !p.list {
			errs = append(errs, atParameter(p.name, fmt.Sprintf("given %d times, may be given once", len(got))))
			continue
		}
		if rule := p.set(into, strings.Join(got, ",")); rule != "" {
			errs = append(errs, atParameter(p.name, rule))
		}
	}
	for _, name := range sortedKeys(values) {
		errs = append(errs, atParameter(name, "is not a parameter of this call; there are "+names(table)))
	}
	return errs
}

// noQuery refuses a query of a call that has no parameters.
func (c *call) noQuery() error {
	var none struct{}
	if errs := parseQuery(nil, c.request.URL.RawQuery, &none); len(errs) > 0 {
		return invalid(slugParameters, errs)
	}
	return nil
}

// parseOptions reads the options of an envelope, an object in JSON that was
// checked.
func parseOptions[T any](table []param[T], raw json.RawMessage, pointer string, into *T) []fieldError {
	if raw[0] != '{' {
		return []fieldError{atPointer(pointer, "must be an object")}
	}
	given := make([][]byte, len(table))
	var unknown []string
	for key, value := range members(raw) {
		name := unquote(key)
		at := slices.IndexFunc(table, func(p param[T]) bool { return p.name == string(name) })
		if at < 0 {
			unknown = append(unknown, string(name))
			continue
		}
		given[at] = value
	}
	var errs []fieldError
	for i, p := range table {
		value := given[i]
		if value == nil || string(value) == "null" {
			continue
		}
		text, rule := scalarText(value, p.schema)
		if rule == "" {
			rule = p.set(into, text)
		}
		if rule != "" {
			errs = append(errs, atPointer(pointer+"/"+p.name, rule))
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		errs = append(errs, atPointer(pointer+"/"+escapePointer(name), "is not an option; there are "+names(table)))
	}
	return errs
}

// scalarText returns the text of a JSON value whose type the schema allows.
func scalarText(value json.RawMessage, s *huma.Schema) (text, rule string) {
	kind := valueType(value)
	takes := func(s *huma.Schema) bool {
		return s.Type == kind || kind == huma.TypeNumber && s.Type == huma.TypeInteger
	}
	if !takes(s) && !slices.ContainsFunc(s.OneOf, takes) {
		var types []string
		for _, one := range append([]*huma.Schema{s}, s.OneOf...) {
			if one.Type != "" {
				types = append(types, one.Type)
			}
		}
		return "", "must be of type " + strings.Join(types, " or ")
	}
	if kind == huma.TypeString {
		return string(unquote(value)), ""
	}
	return string(value), ""
}

// document lists the table as OpenAPI query parameters.
func document[T any](table []param[T]) []*huma.Param {
	var out []*huma.Param
	for _, p := range table {
		out = append(out, &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: p.schema})
	}
	return out
}

func names[T any](table []param[T]) string {
	var out []string
	for _, p := range table {
		out = append(out, p.name)
	}
	return strings.Join(out, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// escapePointer writes a key as a token of a JSON pointer (RFC 6901).
func escapePointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
