package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// errRecursive: a schema in one piece cannot describe a type that contains
// itself.
var errRecursive = errors.New("the type contains itself, which a schema without references cannot say")

// checkType walks a type before it is reflected, for two faults of which the
// library says nothing: it recurses without end into a type that contains
// itself, and it drops what it does not understand of a struct tag.
func checkType(t reflect.Type) error { return checkNested(t, nil) }

func checkNested(t reflect.Type, outer []reflect.Type) error {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		if selfEncoded(t) {
			return nil
		}
		return checkNested(t.Elem(), outer)
	case reflect.Struct:
		if selfEncoded(t) || describesItself(t) {
			return nil
		}
	default:
		return nil
	}
	if slices.Contains(outer, t) {
		return fmt.Errorf("%s: %w", t, errRecursive)
	}
	outer = append(slices.Clip(outer), t)
	for field := range t.Fields() {
		if !field.IsExported() && !field.Anonymous {
			continue
		}
		if err := checkField(field); err != nil {
			return fmt.Errorf("field %s: %w", field.Name, err)
		}
		if field.Tag.Get("json") == "-" {
			continue
		}
		if err := checkNested(field.Type, outer); err != nil {
			return fmt.Errorf("field %s: %w", field.Name, err)
		}
	}
	return nil
}

// valueKind says what the value of a keyword in a struct tag must look like.
type valueKind int

const (
	anyText valueKind = iota
	number
	count
)

// keywords are those of the jsonschema struct tag.
func keywords() map[string]valueKind {
	return map[string]valueKind{
		"title": anyText, "description": anyText, "type": anyText, "anchor": anyText,
		"oneof_required": anyText, "anyof_required": anyText, "oneof_type": anyText, "anyof_type": anyText,
		"pattern": anyText, "format": anyText, "readOnly": anyText, "writeOnly": anyText,
		"default": anyText, "example": anyText, "enum": anyText, "uniqueItems": anyText,
		"minimum": number, "maximum": number, "exclusiveMinimum": number, "exclusiveMaximum": number, "multipleOf": number,
		"minLength": count, "maxLength": count, "minItems": count, "maxItems": count,
	}
}

func checkField(field reflect.StructField) error {
	tag := field.Tag.Get("jsonschema")
	if tag == "" || tag == "-" {
		return nil
	}
	for _, part := range splitTag(tag) {
		if part == "required" || part == "nullable" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		kind, known := keywords()[name]
		if !known {
			return fmt.Errorf(`jsonschema tag: unknown keyword %q (a comma inside a text is written as \\,)`, part)
		}
		if err := checkValue(element(field.Type), name, value, kind); err != nil {
			return fmt.Errorf("jsonschema tag: %s: %w", name, err)
		}
	}
	return nil
}

func checkValue(t reflect.Type, name, value string, kind valueKind) error {
	numeric := t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64
	switch {
	case kind == number && !numeric:
		return fmt.Errorf("does not apply to %s", t)
	case kind == number, numeric && (name == "default" || name == "enum" || name == "example"):
		return checkNumber(value)
	case kind == count:
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return fmt.Errorf("%q is not a count", value)
		}
	case t.Kind() == reflect.Bool && name == "default" && value != "true" && value != "false":
		return fmt.Errorf("%q is neither true nor false", value)
	case name == "default" && !slices.Contains([]reflect.Kind{reflect.Bool, reflect.String, reflect.Slice}, t.Kind()):
		return fmt.Errorf("does not apply to %s", t)
	}
	return nil
}

func checkNumber(value string) error {
	if !json.Valid([]byte(value)) || strings.Trim(value, "-+0123456789.eE") != "" {
		return fmt.Errorf("%q is not a number", value)
	}
	return nil
}

// splitTag splits at commas without a backslash before them, as the library
// does.
func splitTag(tag string) []string {
	var parts []string
	for i, part := range strings.Split(tag, ",") {
		if last := len(parts) - 1; i > 0 && strings.HasSuffix(parts[last], `\`) {
			parts[last] = strings.TrimSuffix(parts[last], `\`) + "," + part
			continue
		}
		parts = append(parts, part)
	}
	return parts
}
